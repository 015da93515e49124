"""The memory model of the pinned engine: what llama.cpp allocates for a model and its settings.

* `gguf`, `metadata`, `hyperparameters`: a model's numbers, from a file's header or a preset
* `architectures`, `quantization`, `tensors`, `layouts`: its tensors and what type each has
* `projectors`: with which a model sees images: its tokens, its graph, its bytes
* everything else: where they go, the caches, and the compute buffers
"""
