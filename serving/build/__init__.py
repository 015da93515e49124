"""One recipe for the engine: the llama.cpp inside the pinned llama-cpp-python, for CPUs and for CUDA."""
