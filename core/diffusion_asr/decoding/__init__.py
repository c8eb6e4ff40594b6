"""Writing: the seam (``decoder``, ``options``), the diffusion process, and the decoders that follow it."""
