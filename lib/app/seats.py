"""Kernels for visitors: a fixed number, all warm, each used by one visitor and then replaced."""

from datetime import UTC, datetime

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.web import HTTPError
from traitlets import Float, Integer


class SeatedKernelManager(AsyncMappingKernelManager):
    """Keeps `seats` kernels: those in Voilà's pool are free, the others have a visitor.

    Voilà derives its own manager from this class; `_pools` and what it does with them are there.
    """

    seats = Integer(5, config=True, help="kernels in all, so visitors at once")
    idle_seconds = Float(900, config=True, help="until a visitor who does nothing must go")
    absent_seconds = Float(60, config=True, help="until a kernel that no page holds must go")
    stopping = False

    def __init__(self, **kwargs):
        self.taken = {}
        super().__init__(**kwargs)

    def take_seat(self) -> bool:
        """Prepare for a visitor, to whom Voilà now gives a kernel of its pool; False: none left."""
        free = self.get_pool_size(self.notebook_path)
        self._keep(max(free - 1, 0))
        return free > 0

    async def start_kernel(self, **kwargs):
        """Start a kernel; there are never more than `seats`."""
        if len(self) >= self.seats:
            raise HTTPError(503, "all seats are taken")
        return await super().start_kernel(**kwargs)

    async def shutdown_kernel(self, kernel_id, *args, **kwargs):
        """Stop a kernel and warm another in its place."""
        await super().shutdown_kernel(kernel_id, *args, **kwargs)
        self.taken.pop(kernel_id, None)
        self.refill()

    async def shutdown_all(self, *args, **kwargs):
        """Stop all kernels for good."""
        self.stopping = True
        await super().shutdown_all(*args, **kwargs)

    async def cull_kernels(self):
        """Stop kernels that are no longer used; called every few seconds."""
        await super().cull_kernels()
        self.refill()

    async def cull_kernel_if_idle(self, kernel_id):
        """Stop the kernel of a visitor who is gone or idle; Voilà never asks this of free ones."""
        kernel, now = self._kernels[kernel_id], datetime.now(UTC)
        last = max(kernel.last_activity, self.taken.setdefault(kernel_id, now))
        held = self._kernel_connections.get(kernel_id, 0)
        if (now - last).total_seconds() > (self.idle_seconds if held else self.absent_seconds):
            await self.shutdown_kernel(kernel_id)

    def refill(self) -> None:
        """Warm a kernel for every seat that is neither free nor a visitor's."""
        pool = self._pools.get(self.notebook_path)
        if self.stopping or pool is None or any(not task.done() for task in pool):
            return  # while some start it is not known which seats are empty; asked again later
        pool[:] = [task for task in pool if task.exception() is None]
        visitors = len(self) - len(pool)
        self._keep(max(self.seats - visitors, 0))
        self.fill_if_needed(delay=0, notebook_name=self.notebook_path)

    def _keep(self, free: int) -> None:
        """Tell Voilà how many kernels its pool is to hold."""
        self.kernel_pools_config = {"default": {"pool_size": free}}
