"""Templates of exported sources; ``$name`` is filled in by :mod:`edgepick_host.compress.export_c_files`."""
