"""What a network costs: its size, the operations, the time and the memory of a forward pass."""

from __future__ import annotations

import io
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from nas_relucode.errors import InputError, finite_number, whole_number
from nas_relucode.qualities.quality import Latency, Quality

if TYPE_CHECKING:
    from torch import nn

    from nas_relucode.codes.reading import Forward

LEAST_RUNS = 5  # that a median and its quartiles need


def parameters(network: nn.Module) -> int:
    """The number of parameters, counted once where shared; quantized and frozen weights are no longer parameters.

    >>> from torch import nn
    >>> parameters(nn.Linear(3, 4))
    16
    """
    from torch.nn.parameter import is_lazy

    from nas_relucode.codes.network_state import check_network

    for name, parameter in check_network(network).named_parameters():
        if is_lazy(parameter):
            raise InputError(f"parameter {name!r} has no size before the first forward pass. Run the network once.")
    return sum(parameter.numel() for parameter in network.parameters())


def disk_size(network: nn.Module) -> int:
    """The bytes of the file that ``torch.save(network.state_dict(), file)`` writes."""
    import torch

    from nas_relucode.codes.network_state import check_network

    file = io.BytesIO()
    torch.save(check_network(network).state_dict(), file)
    return len(file.getvalue())


def flops(network: nn.Module, inputs: Any, *, forward: Forward | None = None) -> int:
    """Floating-point operations of one sample's forward pass, as torch counts them: a multiply-add is two.

    Matrix products, convolutions and attention are counted (`torch.utils.flop_counter`); biases, activations,
    normalisation, pooling and quantized operations are not. "MACs" or "mult-adds" elsewhere are half of it.

    >>> import torch
    >>> flops(torch.nn.Linear(3, 4), torch.zeros(1, 3))
    24
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from nas_relucode.codes.relus import unwrapped
    from nas_relucode.qualities.passes import forward_pass

    network = unwrapped(network)
    with forward_pass(network, inputs, 1, forward) as one, ExitStack() as restore:
        if any(isinstance(module, torch.nn.RNNBase) for module in network.modules()):
            # As one fused operation they would not be counted; without these libraries they are matrix products.
            for library in (torch.backends.mkldnn, torch.backends.cudnn):
                restore.callback(setattr, library, "enabled", library.enabled)
                library.enabled = False
        restore.enter_context(sdpa_kernel(SDPBackend.MATH))  # for the same reason
        counter = restore.enter_context(FlopCounterMode(display=False))
        one()
    return int(counter.get_total_flops())


def device_name(network: nn.Module) -> str:
    """The network's device and what it is, such as ``cpu (znver3)``: latencies of two devices are not comparable."""
    import torch
    from llvmlite.binding import get_host_cpu_name

    from nas_relucode.codes.network_state import device_of

    device = device_of(network)
    names = {"cpu": get_host_cpu_name, "cuda": lambda: torch.cuda.get_device_name(device)}
    return f"{device} ({names[device.type]()})" if device.type in names else str(device)


def latency(
    network: nn.Module,
    inputs: Any,
    *,
    batch_size: int = 1,
    threads: int = 1,
    seconds: float = 0.2,
    forward: Forward | None = None,
) -> Latency:
    """Milliseconds of a forward pass of ``batch_size`` samples: median and interquartile range.

    ``torch.utils.benchmark`` times the pass for at least ``seconds``, with ``threads`` threads of torch on the CPU. A
    run is a pass, or the mean of as many in a row as make the timer's own time negligible; there are at least 5. The
    time includes waiting for the device, not copying the inputs to it. The network computes in its own precision
    without autocast and TF32, and transformers take their plain path (see `untouched`). What else runs on the machine
    makes it longer; latencies of different machines cannot be compared.
    """
    from torch.utils.benchmark import Measurement, Timer

    from nas_relucode.qualities.passes import forward_pass

    threads = whole_number("threads", threads, least=1)
    seconds = finite_number("seconds", seconds)
    with forward_pass(network, inputs, batch_size, forward) as one:
        timer = Timer("run()", globals={"run": one}, num_threads=threads)
        times: list[Any] = []
        while sum(len(some.times) for some in times) < LEAST_RUNS:
            times.append(timer.blocked_autorange(min_run_time=seconds))
    (merged,) = Measurement.merge(times)
    return Latency(1e3 * merged.median, 1e3 * merged.iqr, len(merged.times), batch_size, device_name(network), threads)


def peak_memory(network: nn.Module, inputs: Any, *, batch_size: int = 1, forward: Forward | None = None) -> int:
    """Bytes that a forward pass of ``batch_size`` samples needs at most: parameters, buffers, inputs, activations.

    On CUDA, what the allocator hands out during the pass (``torch.cuda.max_memory_allocated``, in blocks of 512 bytes),
    with what kernels need for themselves. Elsewhere, the tensors that live at the same time: a count that does not
    depend on the machine, without what kernels need for themselves.
    """
    import torch

    from nas_relucode.codes.relus import unwrapped
    from nas_relucode.qualities.live_tensors import LiveTensors
    from nas_relucode.qualities.passes import forward_pass

    with forward_pass(unwrapped(network), inputs, batch_size, forward) as one:
        with LiveTensors(one.tensors) as live:
            resident = live.peak
            if one.device.type != "cuda":
                one()
                return live.peak
        torch.cuda.reset_peak_memory_stats(one.device)
        before = torch.cuda.memory_allocated(one.device)
        one()
        return resident + torch.cuda.max_memory_allocated(one.device) - before


QUALITIES = (
    Quality("parameters", "parameters", "minimize", "Parameters, counted once where shared.", parameters, False),
    Quality("flops", "FLOPs", "minimize", "Operations of one sample's forward pass; a multiply-add is two.", flops),
    Quality("latency", "ms", "minimize", "Median time of one sample's forward pass on one thread.", latency),
    Quality("peak_memory", "bytes", "minimize", "Most memory that one sample's forward pass needs.", peak_memory),
    Quality("disk_size", "bytes", "minimize", "Size of the file of the network's saved state_dict.", disk_size, False),
)
