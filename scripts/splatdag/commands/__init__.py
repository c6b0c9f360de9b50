"""What a user asks of all areas at once: status, doctor, compare, generate, compile_kernels."""
