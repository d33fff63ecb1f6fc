"""Measures what reading and converting a full-size checkpoint costs in memory. Linux only; not a test.

    python -m bench.checkpoint_memory [--checkpoint model.pth] [--instance-diffusion] [--folder /tmp]

Without `--checkpoint` it makes one of the released one's size (a UNet of 860 M parameters and an adapter of
297 M, float32, 4.6 GB, random) in `--folder`, and removes it afterwards; with `--instance-diffusion` one of
InstanceDiffusion's (two UNets with their adapters, what the optimiser remembers, CLIP and a VAE: 13.6 GB of zeros,
which take no room where the disk knows sparse files). Each case runs in a process of its
own; what is shown is that process's peak (VmHWM, which counts mapped pages too), and how much that is above a
process that has only imported torch. The allowance is the adapter's own size in the type it is read in, plus
300 MB.
"""

import argparse
import math
import mmap
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ALLOWANCE = 300e6

REPORT = """
for line in open('/proc/self/status'):
    if line.startswith('VmHWM'):
        print('peak', int(line.split()[1]) * 1024)
"""
READ = """
from deig_core.files.checkpoint import read_adapter
tensors = read_adapter({path!r}, {dtype})
print('size', sum(tensor.nbytes for tensor in tensors.values()))
"""
CONVERT = """
from pathlib import Path
from deig_core.files.checkpoint import main
print(main([{path!r}, {target!r}, '--force', *{options!r}]))
print('size', Path({target!r}).stat().st_size)
"""


def make_checkpoint(path: Path):
    import torch

    from .released import adapter_shapes, unet_shapes

    torch.set_num_threads(2)
    shapes = unet_shapes() | adapter_shapes()
    torch.save({"model": {name: torch.rand(shape) for name, shape in shapes.items()}}, path)
    count = sum(map(math.prod, shapes.values()))
    size = path.stat().st_size / 1e9
    print(f"Made {path}: {len(shapes)} tensors, {count / 1e6:.0f} M parameters, {size:.2f} GB")


class Sparse:
    """A file for torch.save to write into, in which long stretches of zeros are left out."""

    def __init__(self, path: Path):
        self._file = path.open("wb")

    def write(self, data) -> int:
        import numpy

        numbers = numpy.frombuffer(data, dtype=numpy.uint8)
        if len(numbers) < 2**16 or numbers.any():
            return self._file.write(numbers)
        self._file.seek(len(numbers), 1)
        return len(numbers)

    def flush(self):
        self._file.flush()

    def close(self):
        self._file.truncate()
        self._file.close()


def make_instance_diffusion_checkpoint(path: Path):
    import torch

    from .released import unet_shapes
    from .released_instance_diffusion import adapter_shapes

    own = adapter_shapes()
    # Memory that was never written to is one page of zeros, however much of it is read.
    memory = mmap.mmap(-1, 4 * 123_000_000)

    def zeros(shapes):
        return {
            name: torch.frombuffer(memory, dtype=torch.float32, count=math.prod(shape)).view(shape)
            for name, shape in shapes.items()
        }

    file = Sparse(path)
    content = {
        "model": zeros(unet_shapes() | own),
        "text_encoder": zeros({"transformer.x": (123, 1000, 1000)}),
        "autoencoder": zeros({"encoder.x": (84, 1000, 1000)}),
        "opt": {"state": {n: zeros({"exp_avg": s, "exp_avg_sq": s}) for n, s in enumerate(own.values())}},
        "config_dict": argparse.Namespace(model="an object whose class is not here"),
        "ema": zeros(unet_shapes() | own),
    }
    torch.save(content, file)
    file.close()
    taken = path.stat().st_blocks * 512 / 1e6
    print(f"Made {path}: {path.stat().st_size / 1e9:.2f} GB, of which {taken:.0f} MB take room")


def measure(body: str) -> dict[str, int]:
    """Run Python lines in a process of their own; returns its peak and the size that it printed, in bytes."""
    script = "import torch\ntorch.set_num_threads(2)\n" + body + REPORT
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        sys.exit(run.stderr)
    words = [line.split() for line in run.stdout.splitlines()]
    return {line[0]: int(line[1]) for line in words if line[0] in ("peak", "size")}


def report(checkpoint: Path, folder: Path):
    small, whole = str(folder / "small.safetensors"), str(folder / "whole.safetensors")
    path = str(checkpoint)
    cases = {
        "read model.pth as it is": READ.format(path=path, dtype="None"),
        "read model.pth to fp16": READ.format(path=path, dtype="torch.float16"),
        "convert model.pth as it is": CONVERT.format(path=path, target=whole, options=[]),
        "convert model.pth to fp16": CONVERT.format(path=path, target=small, options=["--dtype", "fp16"]),
        "read the fp16 safetensors": READ.format(path=small, dtype="None"),
        "read the fp16 safetensors to fp32": READ.format(path=small, dtype="torch.float32"),
    }
    bare = measure("")["peak"]
    print(f"{'a process with torch alone':36} {bare / 1e6:8.0f} MB")
    for name, body in cases.items():
        result = measure(body)
        above = result["peak"] - bare
        verdict = "within" if above < result["size"] + ALLOWANCE else "TOO MUCH, over"
        print(
            f"{name:36} {result['peak'] / 1e6:8.0f} MB, {above / 1e6:6.0f} above it; {verdict} "
            f"{result['size'] / 1e6:.0f} + 300"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="measure this file instead of a generated one")
    parser.add_argument(
        "--instance-diffusion",
        action="store_true",
        help="measure a generated file of InstanceDiffusion's size",
    )
    parser.add_argument("--folder", type=Path, help="where the generated files lie for the while")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        checkpoint = options.checkpoint or Path(folder) / "model.pth"
        if options.instance_diffusion:
            make_instance_diffusion_checkpoint(checkpoint)
        elif not options.checkpoint:
            make_checkpoint(checkpoint)
        report(checkpoint, Path(folder))


if __name__ == "__main__":
    main()
