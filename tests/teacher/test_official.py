"""Network pickles: official layouts load, hostile and damaged files are refused by name."""

import bz2
import collections
import contextlib
import gzip
import io
import os
import pickle
import resource
import sys
import tracemalloc
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from lib.common.errors import StudyError
from lib.common.files import ROOT
from lib.gan.discriminator import Discriminator
from lib.gan.generator import Generator
from lib.teacher.official.pickle import SafeUnpickler
from lib.teacher.official.reader import StoredNetwork, load_network, read_network_pickle
from lib.teacher.official.tensors import STAND_INS

DATA = ROOT / "tests" / "fixtures" / "stylegan2"
TINY = DATA / "tiny_p4.pkl"

SMALL = dict(z_dim=4, c_dim=0, w_dim=4, img_resolution=8, img_channels=3)
SMALL |= dict(mapping_kwargs=dict(num_layers=1), synthesis_kwargs=dict(channel_max=2))
CONVERTED = dict(z_dim=6, c_dim=3, w_dim=5, img_resolution=16, img_channels=3)
CONVERTED["mapping_kwargs"] = dict(num_layers=3, embed_features=7, layer_features=4)
CONVERTED["mapping_kwargs"] |= dict(activation="lrelu", lr_multiplier=0.01, w_avg_beta=0.995)
CONVERTED["synthesis_kwargs"] = dict(channel_base=96, channel_max=9, num_fp16_res=0)
CONVERTED["synthesis_kwargs"] |= dict(conv_clamp=None, architecture="resnet", use_noise=False)
CONVERTED["synthesis_kwargs"] |= dict(resample_filter=np.array([1, 3, 3, 1]), activation="relu")
UNEVEN = dict(z_dim=8, c_dim=0, w_dim=8, img_resolution=32, img_channels=1)
UNEVEN |= dict(mapping_kwargs=dict(num_layers=4), synthesis_kwargs=dict(channel_base=256))
UNEVEN["synthesis_kwargs"] |= dict(channel_max=24, conv_clamp=None)


class EasyDict(dict):
    """A dictionary with attributes, as in the official code."""

    __module__ = "dnnlib.util"

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def _reconstruct_persistent_obj(meta):
    raise AssertionError("called")


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


@contextlib.contextmanager
def official_modules():
    """Let pickle find the names of the official code while a file is written."""
    modules = {
        "dnnlib": types.SimpleNamespace(),
        "dnnlib.util": types.SimpleNamespace(EasyDict=EasyDict),
        "torch_utils": types.SimpleNamespace(),
        "torch_utils.persistence": types.SimpleNamespace(
            _reconstruct_persistent_obj=_reconstruct_persistent_obj
        ),
    }
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


class OfficialPickler(pickle.Pickler):
    """Writes a module as the official code does: source text, class name and state."""

    def reducer_override(self, thing):
        if not isinstance(thing, nn.Module):
            return NotImplemented
        state = dict(thing.__dict__) | {"act_gain": np.sqrt(2), "training": False}
        meta = dict(type="class", version=6, module_src="import os", state=state)
        meta["class_name"] = type(thing).__name__
        return _reconstruct_persistent_obj, (meta,)


def official_file(content: dict, protocol: int = 4) -> bytes:
    """Pickle a dictionary of networks in the official layout."""
    file = io.BytesIO()
    with official_modules():
        OfficialPickler(file, protocol=protocol).dump(content)
    return file.getvalue()


def easy(value):
    return EasyDict({k: easy(v) for k, v in value.items()}) if type(value) is dict else value


def make(cls: type[nn.Module], arguments: dict, seed: int = 0) -> nn.Module:
    """Make a network that remembers its arguments as the official classes do."""
    torch.manual_seed(seed)
    plain = arguments | {
        key: {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in value.items()}
        for key, value in arguments.items()
        if type(value) is dict
    }
    network = cls(**plain).eval().requires_grad_(False)
    for tensor in network.state_dict().values():
        if tensor.dim() != 2 or tensor.shape != (4, 4):
            tensor.normal_()
    network._init_args, network._init_kwargs = (), easy(arguments)
    return network


def images(network: nn.Module, n: int = 2) -> torch.Tensor:
    torch.manual_seed(1)
    z = torch.randn(n, network.z_dim)
    c = torch.eye(network.c_dim)[:n] if network.c_dim else None
    return network(z, c, truncation_psi=0.7, noise_mode="const")


@pytest.fixture(scope="module")
def small_file() -> bytes:
    return official_file({"G_ema": make(Generator, SMALL | {"img_resolution": 4})})


@pytest.fixture
def load(tmp_path):
    """Return a function that writes bytes to a file and loads it."""

    def write_and_load(data: bytes, which: str = "G_ema") -> nn.Module:
        path = tmp_path / "network.pkl"
        path.write_bytes(data)
        return load_network(path, which)

    return write_and_load


# --- what must load


def test_official_layout_gives_the_expected_images():
    expected = np.load(DATA / "tiny_expected.npz")
    z, c = torch.from_numpy(expected["z"]), torch.from_numpy(expected["labels"])
    for key, which, psi in (
        ("img_G_ema", "G_ema", 1),
        ("img_G", "G", 1),
        ("img_G_ema_psi07", "G_ema", 0.7),
    ):
        network = load_network(TINY, which)
        out = network(z.float(), c.float(), truncation_psi=psi, noise_mode="const")
        assert np.abs(out.numpy() - expected[key]).max() < 2e-5, key


def test_official_layout_is_read_as_inert_data():
    content = read_network_pickle(TINY)
    assert set(content) == {"G", "D", "G_ema", "training_set_kwargs", "augment_pipe"}
    assert content["training_set_kwargs"]["path"] == "cifar10.zip"
    assert type(content["augment_pipe"]) is StoredNetwork
    state = content["G_ema"].state["_modules"]["mapping"].state["_modules"]["fc0"].state
    assert state["weight_gain"] == pytest.approx(0.01 / np.sqrt(32))


def test_discriminator_loads():
    network = load_network(TINY, "D")
    assert type(network) is Discriminator
    assert network(torch.zeros(4, 3, 32, 32), torch.eye(10)[:4]).shape == (4, 1)


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("arguments", [SMALL, CONVERTED, UNEVEN], ids=["small", "tf", "uneven"])
def test_every_protocol_and_configuration(load, protocol, arguments):
    original = make(Generator, arguments)
    loaded = load(official_file({"G_ema": original, "D": None}, protocol))
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    assert loaded.state_dict().keys() == original.state_dict().keys()
    torch.testing.assert_close(images(loaded), images(original), rtol=0, atol=0)


def test_old_numpy_names(load):
    data = official_file({"G_ema": make(Generator, CONVERTED)}, 3)
    assert data.count(b"numpy._core.") >= 1
    load(data.replace(b"numpy._core.", b"numpy.core."))


def test_half_precision_and_transposed_tensors_load_as_float32(load):
    network = make(Generator, SMALL)
    weight = network.mapping.fc0.weight
    network.mapping.fc0.weight = nn.Parameter(weight.half().T.contiguous().T, requires_grad=False)
    loaded = load(official_file({"G_ema": network})).mapping.fc0.weight
    torch.testing.assert_close(loaded, weight.half().float())


def test_loading_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    load_network(TINY)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_numpy_arrays_and_numbers(protocol):
    values = [np.arange(6.0).reshape(2, 3).T, np.float32(1.5), np.int64(-3), np.bool_(True)]
    values += [np.zeros((0, 2)), np.array(7), np.arange(10, dtype=np.uint8)[::2]]
    read = SafeUnpickler(io.BytesIO(pickle.dumps(values, protocol)), STAND_INS).load()
    read = [getattr(value, "array", value) for value in read]
    for got, value in zip(read, values, strict=True):
        np.testing.assert_array_equal(got, value)


def test_numpy_arrays_that_do_not_fit():
    for proto, old, new in (
        (5, b"K\x03\x85", b"K\x04\x85"),
        (5, b"K\x03\x85", b"K\x00\x8a\x08" + b"\x7f" * 8 + b"\x86"),
        (3, b"K\x03\x85", b"K\x04\x85"),
        (3, b"f8", b"O8"),
        (5, b"f8", b"V8"),
        (3, b"\x01\x00\x00\x00<", b"\x01\x00\x00\x00>"),
    ):
        data = pickle.dumps(np.arange(3.0), proto)
        assert data.count(old) == 1
        framed = data.replace(old, new)
        framed = framed[:3] + (len(framed) - 11).to_bytes(8, "little") + framed[11:]
        with pytest.raises(StudyError, match="numpy|does not fill"):
            read(framed if proto == 5 else data.replace(old, new))


# --- what must be refused


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def storage_bytes(values=(1.0, 2.0, 3.0, 4.0)) -> bytes:
    file = io.BytesIO()
    storage = torch.tensor(values).untyped_storage()
    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    torch.save(typed, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def tensor_call(data: bytes, offset=0, shape=(2, 2), stride=(2, 1), hooks=None) -> Call:
    storage = Call(torch.storage._load_from_bytes, data)
    hooks = collections.OrderedDict() if hooks is None else hooks
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, shape, stride, False, hooks)


def read(thing, protocol: int = 4):
    """Pickle a thing and read it back inertly."""
    data = thing if isinstance(thing, bytes) else pickle.dumps(thing, protocol)
    return SafeUnpickler(io.BytesIO(data), STAND_INS).load()


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_tensors(protocol):
    tensor = read(tensor_call(storage_bytes(), 1, (3,), (1,)), protocol).tensor()
    assert tensor.tolist() == [2, 3, 4]


def text(value: str) -> bytes:
    return pickle.SHORT_BINUNICODE + bytes([len(value)]) + value.encode()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("torch", "_utils._rebuild_parameter"),
        ("torch.storage", "_load_from_bytes.__globals__"),
        ("collections", "OrderedDict.fromkeys"),
        ("numpy", "ndarray.tofile"),
        ("torch_utils.persistence", "_src_to_module"),
    ],
)
def test_unlisted_globals_are_named_and_never_called(load, tmp_path, module, name):
    victim = tmp_path / "victim"
    argument = text(f"touch {victim}") + pickle.TUPLE1 + pickle.REDUCE + pickle.STOP
    by_text = b"\x80\x02c" + f"{module}\n{name}\n".encode() + argument
    by_stack = b"\x80\x04" + text(module) + text(name) + pickle.STACK_GLOBAL + argument
    for data in (by_text, by_stack):
        with pytest.raises(StudyError, match=f"'{module}' '{name}' is not on the list"):
            load(data)
    assert not victim.exists()


def test_poisoned_inner_storage(tmp_path):
    victim = tmp_path / "victim"
    poison = pickle.dumps(Call(os.system, f"touch {victim}"), 2)
    start = storage_bytes().index(b"\x80\x02(X\x07\x00\x00\x00storage")
    for inner in (storage_bytes()[:start] + poison, poison, b"PK\x03\x04"):
        with pytest.raises(StudyError, match="_load_from_bytes"):
            read(tensor_call(inner))
    assert not victim.exists()


@pytest.mark.parametrize(
    ("message", "places"),
    [
        (
            "does not lie inside its storage of 4 elements|is larger than any file",
            [(0, (2, 2), (2, 2)), (1, (2, 2), (2, 1)), (2**62, (1,), (1,))]
            + [(0, (2**62, 2**62), (0, 0)), (0, (10**10,), (0,)), (0, (0, 2**62), (0, 0))]
            + [(0, (2, 2**40), (2**40, 1))],
        ),
        (
            "tuples of numbers from 0 on",
            [(-1, (2,), (1,)), (3, (2,), (-1,)), (0, (-2,), (1,)), (0, [2], (1,))]
            + [(True, (1,), (1,)), (0, (1,) * 9, (1,) * 9), (0.5, (1,), (1,))],
        ),
    ],
)
def test_tensors_outside_of_their_storage(message, places):
    for place in places:
        with pytest.raises(StudyError, match=message):
            read(tensor_call(storage_bytes(), *place))


def test_tensors_with_other_arguments():
    with pytest.raises(StudyError, match="2 dimensions but 1 strides"):
        read(tensor_call(storage_bytes(), 0, (2, 2), (1,)))
    with pytest.raises(StudyError, match="hooks"):
        read(tensor_call(storage_bytes(), hooks={"1": "x"}))
    with pytest.raises(StudyError, match="BINPERSID.*outside"):
        read(b"\x80\x02K\x01Q.")


def test_storage_that_claims_more_than_it_holds():
    data = storage_bytes()
    claim = data.replace(b"K\x04N", b"\x8a\x05\x00\xe4\x0b\x54\x02N")  # 10^10 elements
    assert claim != data
    with pytest.raises(StudyError, match="contradicts itself"):
        read(tensor_call(claim))
    both = claim[:-24] + (10**10).to_bytes(8, "little") + data[-16:]
    with pytest.raises(StudyError, match="10,000,000,000 elements are claimed, 16 bytes"):
        read(tensor_call(both))
    with pytest.raises(StudyError, match="torch.*BoolStorage"):
        read(tensor_call(data.replace(b"FloatStorage", b"BoolStorage")))


CLAIMS = [
    pickle.BINBYTES8 + (10**10).to_bytes(8, "little"),
    pickle.BINUNICODE8 + (10**10).to_bytes(8, "little"),
    pickle.BYTEARRAY8 + (10**10).to_bytes(8, "little"),
    pickle.FRAME + (10**10).to_bytes(8, "little"),
    pickle.FRAME + (2**64 - 1).to_bytes(8, "little"),
    pickle.BINBYTES + (2**32 - 1).to_bytes(4, "little"),
    pickle.BINUNICODE + (2**32 - 1).to_bytes(4, "little"),
    pickle.LONG4 + (2**31 - 1).to_bytes(4, "little"),
    pickle.LONG4 + (2**31).to_bytes(4, "little"),
    pickle.NONE + pickle.LONG_BINPUT + (2**32 - 1).to_bytes(4, "little"),
    pickle.LONG_BINGET + (2**32 - 1).to_bytes(4, "little"),
    pickle.EMPTY_SET * 200_001,
    pickle.EMPTY_TUPLE + pickle.TUPLE1 * 50_000,
    pickle.INT + b"9" * 100_000 + b"\n",
]


def hostile_files(victim: Path) -> list[bytes]:
    """Return files that would run a command, read outside of a storage or fill the memory."""
    touch = f"touch {victim}"
    evil = f"__import__('os').system({touch!r})"
    content = [
        Call(os.system, touch),
        Call(eval, evil),
        tensor_call(storage_bytes(), 0, (2, 2), (10**9, 1)),
        tensor_call(storage_bytes(), 0, (10**5, 10**5), (0, 0)),
    ]
    dotted = b"\x80\x04" + text("os") + text("path.os.system") + pickle.STACK_GLOBAL
    dotted += text(touch) + pickle.TUPLE1 + pickle.REDUCE + pickle.STOP
    sizes = [("z_dim", 10**9), ("w_dim", 10**6), ("img_channels", 2**16), ("img_resolution", 1024)]
    files = [small_network(set_argument(key, value=value)) for key, value in sizes]
    files += [small_network(set_argument("synthesis_kwargs", "channel_max", value=10**9))]
    files += [b"\x80\x05" + claim for claim in CLAIMS]
    return [dotted, *files] + [pickle.dumps({"G_ema": thing}, protocol=4) for thing in content]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux limits the memory")
def test_hostile_files_under_a_limit_of_memory(tmp_path):
    """In a process that may take 256 MB more than it has, each is refused, and nothing is done."""
    paths = [tmp_path / f"{i}.pkl" for i in range(len(hostile_files(tmp_path)))]
    for path, data in zip(paths, hostile_files(tmp_path / "victim"), strict=True):
        path.write_bytes(data)
    child = os.fork()
    if child == 0:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * os.sysconf("SC_PAGE_SIZE") + 2**28
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        refused = 0
        try:
            for path in paths:
                with pytest.raises(StudyError):
                    load_network(path)
                refused += 1
        finally:  # the child must not go on with the tests
            os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == len(paths) == 24
    assert not (tmp_path / "victim").exists()


def test_bytes_read_again_and_again_are_refused():
    data = storage_bytes([0.0] * 2**14)
    body = b"ctorch.storage\n_load_from_bytes\nq\x00B" + len(data).to_bytes(4, "little") + data
    with pytest.raises(StudyError, match="makes more bytes than it holds"):
        read(b"\x80\x03(" + body + b"q\x01" + b"h\x00h\x01\x85R" * 1000 + b"t.")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\x82\x01.", "EXT1"),
        (b"\x84\x01\x00\x00\x00.", "EXT4"),
        (b"(ios\nsystem\n.", "INST"),
        (b"(cos\nsystem\no.", "not on the list"),
        (b"Pabc\n.", "PERSID"),
        (b"\x97.", "NEXT_BUFFER"),
        (b"}}}s.", "key is of type dict"),
        (b"}(K\x01u.", "key without a value"),
        (b"\x8f()\x90.", "key is of type tuple"),
        (b"]K\x01]sb.", "SETITEM"),
        (b"K\x01}b.", "int takes no state"),
        (b"]]R.", "no known function"),
        (b"K\x01K\x01\x93.", "something else than text"),
        (b"X\x01\x00\x00\x00\xff.", "BINUNICODE: 'utf-8' codec"),
        (b"0.", "POP: the stack or memo holds no value"),
        (b"(.", "STOP: the stack or memo holds no value"),
        (b"NN.", "left on the stack"),
        (b"t.", "TUPLE: the stack or memo"),
        (b"(K\x01}0s.", "SETITEM"),
        (b"h\x05.", "BINGET: the stack or memo"),
        (b"N", "the file ends before its STOP"),
        (b"cos", "no newline"),
        (b"\xff", "opcode 0xff"),
        (b"ccollections\nOrderedDict\nN\x85R.", "only an empty one"),
        (b"ccollections\nOrderedDict\n)R}b.", "dict takes no state"),
        (b"N.N.", "more bytes follow"),
        (b"N.", "holds a NoneType"),
    ],
)
def test_misused_opcodes_are_named(load, body, message):
    with pytest.raises(StudyError, match=message):
        load(b"\x80\x04" + body if b"N.N" not in body else b"\x80\x04}.N.")


def test_files_that_are_no_pickle(load):
    for data in (b"", b"\x80", b"\x80\x01N.", b"\x80\x06N.", b"N."):
        with pytest.raises(StudyError, match="no pickle of protocol 2 to 5"):
            load(data)


def saved(legacy: bool) -> bytes:
    file = io.BytesIO()
    torch.save({"G_ema": torch.zeros(2)}, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\n<!DOCTYPE html><html>404</html>", "is a web page: download the file again"),
        (gzip.compress(b"network", mtime=0), "compressed by gzip: unpack it"),
        (bz2.compress(b"network"), "compressed by bzip2: unpack it"),
        (saved(legacy=False), "zip archive: unpack it; if torch.save wrote it, pickle the dict"),
        (saved(legacy=True), "torch.save wrote it: pickle the dictionary of networks"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git lfs pull"),
        (b"\x80\x03cdnnlib.tflib.network\nNetwork\n.", "TensorFlow's networks: convert it by leg"),
    ],
    ids=["page", "gzip", "bzip2", "zip", "torch", "pointer", "tensorflow"],
)
def test_other_formats_are_told_what_to_do(load, data, message):
    with pytest.raises(StudyError, match=message):
        load(data)


def test_missing_file_and_network(tmp_path):
    with pytest.raises(StudyError, match="nothing.pkl cannot be read"):
        load_network(tmp_path / "nothing.pkl")
    with pytest.raises(StudyError, match="cannot be read"):
        load_network(tmp_path)
    with pytest.raises(StudyError, match="no network E: choose one of 'G', 'D', 'G_ema'"):
        load_network(TINY, "E")
    with pytest.raises(StudyError, match="AugmentPipe"):
        load_network(TINY, "augment_pipe")


def test_truncated_files(load, small_file):
    for length in range(0, len(small_file), 199):
        with pytest.raises(StudyError):
            load(small_file[:length])


def small_network(change) -> bytes:
    network = make(Generator, SMALL)
    change(network)
    return official_file({"G_ema": network})


def set_argument(*keys, value):
    def change(network):
        target = network._init_kwargs
        for key in keys[:-1]:
            target = target[key]
        target[keys[-1]] = value

    return change


def own_child(network):
    network.synthesis.b4._modules["again"] = network.synthesis


def double_child(network):
    for _ in range(14):
        parent = nn.Module()
        parent._modules |= {"a": network.mapping, "b": network.mapping}
        network._modules["mapping"] = parent


def self_argument(network):
    network._init_kwargs["mapping_kwargs"]["self"] = network._init_kwargs


def shared_storage(network):
    weight = nn.Parameter(torch.zeros(1500, 1500), requires_grad=False)
    for child in (network.mapping.fc0, network.synthesis.b4.conv1, network.synthesis.b8.conv1):
        child.weight = weight


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_argument("mapping_kwargs", "surprise", value=1), "surprise"),
        (set_argument("magnitude_ema_beta", value=0.9), "StyleGAN3.*stylegan2-ada-pytorch"),
        (set_argument("synthesis_kwargs", "fused_modconv_default", value="x"), "StyleGAN3 repo"),
        (set_argument("img_resolution", value=12), "img_resolution = 12"),
        (set_argument("img_resolution", value=16), "tensor 'synthesis.b16"),
        (set_argument("z_dim", value=5), "mapping.fc0.weight' has shape"),
        (set_argument("z_dim", value=10**9), "z_dim"),
        (set_argument("z_dim", value=4.0), "z_dim = 4.0"),
        (set_argument("c_dim", value=True), "c_dim = True"),
        (set_argument("synthesis_kwargs", "conv_clamp", value="x"), "synthesis_kwargs.conv_clamp"),
        (set_argument("synthesis_kwargs", "conv_clamp", value=float("nan")), "conv_clamp = nan"),
        (set_argument("synthesis_kwargs", "channel_max", value=10**12), "channel_max"),
        (set_argument("synthesis_kwargs", "use_noise", value="no"), "use_noise"),
        (set_argument("synthesis_kwargs", "kernel_size", value=2), "kernel_size = 2"),
        (set_argument("synthesis_kwargs", "architecture", value="dense"), "architecture"),
        (set_argument("synthesis_kwargs", "resample_filter", value=["a"]), "resample_filter"),
        (set_argument("synthesis_kwargs", "resample_filter", value=[float("inf")]), "_filter"),
        (set_argument("synthesis_kwargs", "channel_base", value=4), "lead to no network"),
        (set_argument("x" * 9999, value=1), "Extra inputs are not permitted"),
        (set_argument("mapping_kwargs", "lr_multiplier", value=0), "lr_multiplier = 0"),
        (lambda network: network._init_kwargs.pop("z_dim"), "z_dim.*required"),
        (lambda n: n.mapping.fc0.weight.fill_(float("inf")), "fc0.weight' holds .* not finite"),
        (set_argument("mapping_kwargs", "num_layers", value=2**19), "num_layers"),
        (set_argument("mapping_kwargs", "num_layers", value=2), "mapping.fc1"),
        (set_argument("synthesis_kwargs", "activation", value=["x"]), "arguments"),
        (set_argument("synthesis_kwargs", "resample_filter", value=[0] * 2000), "at most 64 items"),
        (set_argument("mapping_kwargs", value={3: 4}), "mapping_kwargs"),
        (
            set_argument("mapping_kwargs", value=nn.Module()),
            "mapping_kwargs.: Input should be a valid dict",
        ),
        (lambda network: delattr(network, "_init_kwargs"), "_init_kwargs"),
        (own_child, "too deeply"),
        (double_child, "too deeply"),
        (self_argument, "mapping_kwargs.self"),
        (shared_storage, "more elements than the file"),
        (lambda n: n.mapping.fc0._parameters.pop("bias"), "mapping.fc0.bias' is missing in the f"),
        (lambda n: n.register_buffer("more", torch.zeros(1)), "'more' is missing in our network"),
        (lambda n: n._buffers.update(w=3), "'w' is no tensor"),
        (lambda n: n._modules.update(w=3), "'w' is no module"),
        (lambda n: n.__dict__.pop("_buffers"), "without _buffers"),
        (lambda n: n._buffers.update({"a.b": None}), "no plain name"),
        (lambda n: n.mapping._buffers.update(w_avg=torch.zeros(4, dtype=torch.int64)), "int64"),
    ],
)
def test_networks_that_do_not_fit(load, change, message):
    data = small_network(change)
    with pytest.raises(StudyError, match=message) as caught:
        load(data)
    assert "\n" not in str(caught.value)


# --- fuzzing


def mutated(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for position, removed, inserted in edits:
        start = position % (len(data) + 1)
        data = data[:start] + inserted + data[start + removed :]
    return data


EDITS = st.lists(
    st.tuples(st.integers(0, 2**20), st.integers(0, 8), st.binary(max_size=8)),
    min_size=1,
    max_size=4,
)


def check_mutant(data: bytes, path: Path) -> None:
    """Load a damaged file: a network or a `StudyError`, little memory, no new modules."""
    path.write_bytes(data)
    modules = set(sys.modules)
    tracemalloc.start()
    try:
        network = load_network(path)
        assert type(network) in (Generator, Discriminator)
    except StudyError as error:
        assert str(path) in str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 8 * 2**20
    assert set(sys.modules) == modules


FUZZ = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@FUZZ
@given(edits=EDITS)
def test_mutated_files(small_file, tmp_path, edits):
    check_mutant(mutated(small_file, edits), tmp_path / "mutant.pkl")


@FUZZ
@given(edits=EDITS)
def test_mutated_storages(edits):
    with contextlib.suppress(StudyError):
        read(tensor_call(mutated(storage_bytes(), edits)))


@FUZZ
@given(data=st.binary(max_size=60))
def test_random_opcodes(data):
    with contextlib.suppress(StudyError):
        read(b"\x80\x04" + data)
