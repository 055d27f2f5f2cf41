"""Where a command begins: memory is settled before the first import that starts threads, then the command line runs."""

from __future__ import annotations

from export_pipelines.allocators import share_allocator


def main() -> None:
    """Entry point of the console script and of ``python -m export_pipelines``."""
    share_allocator()
    from export_pipelines.cli import main as run

    run()


if __name__ == "__main__":
    main()
