"""A small upstream: does what its request says, as the drivers of real ones do, without anything of splatdag."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path


def write(folder: Path, shape: list[int]) -> None:
    """Write the files of the contract in test_backend.py."""
    import numpy as np

    frames, height, width = shape
    generator = np.random.default_rng(0)
    np.savez(
        folder / "predictions.npz",
        image_names=np.array([f"{i:03d}.png" for i in range(frames)]),
        extrinsic=generator.random((frames, 3, 4), dtype=np.float32),
        depth=generator.random((frames, height, width), dtype=np.float32),
    )


def main() -> None:
    """Answer a request."""
    path = Path(sys.argv[1])
    folder, request = path.parent, json.loads(path.read_text())
    options = request["options"]
    how = options["how"]
    (folder / "attempts").open("a").write("x")
    print(f"{how}: {options['shape']}")
    sys.stdout.write("".join(f"\r{percent} %" for percent in range(0, 101, 10)) + "\n")
    if how == "raise":
        raise ValueError("no such model: tiny")
    if how == "exit":
        print("half done", file=sys.stderr)
        sys.exit(3)
    if how == "memory":
        raise MemoryError
    if how == "gpu memory":
        sys.exit("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB")
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "wait":
        # One that works in a session of its own, as compilers' workers do, and ends for no signal but one.
        code = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\nsignal.pause()"
        worker = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
        worker.stdout.readline()
        partial = Path(options["pids"]).with_suffix(".partial")
        partial.write_text(json.dumps([os.getppid(), os.getpid(), worker.pid]))
        partial.rename(options["pids"])
        signal.pause()
    if how != "no file":
        write(folder, [3, 2, 2] if how == "wrong shape" else options["shape"])
    if how == "nan":
        import numpy as np

        np.savez(
            folder / "predictions.npz",
            **{**np.load(folder / "predictions.npz"), "depth": np.full((2, 4, 6), np.nan, np.float32)},
        )
    answer = {
        "digest": "of another" if how == "another request" else request["digest"],
        "environment": dict(os.environ),
        "request": request,
        "cwd": str(Path.cwd()),
        "argv": sys.argv,
    }
    if how == "no result":
        return
    (folder / "result.json").write_text("{" if how == "garbage" else json.dumps(answer))


main()
