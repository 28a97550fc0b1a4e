// The page talks to its kernel through one WebSocket; say so when it stays closed.
const Plain = window.WebSocket;
const open = new Set();
let timer;
window.WebSocket = class extends Plain {
  constructor(...given) {
    super(...given);
    this.addEventListener("open", () => open.add(this));
    this.addEventListener("close", () => {
      open.delete(this);
      clearTimeout(timer);
      timer = setTimeout(() => {
        document.getElementById("lost").hidden = open.size > 0;
      }, 5000);
    });
  }
};
