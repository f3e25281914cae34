"""PaliServe serves PaliGemma. The life of a request:

1. A transport (``transports/``) turns bytes into an image and arguments and calls one task.
2. The task (``tasks/``) writes the prefix the model was trained on and asks ``instances/`` which instance answers.
3. The instance's engine (``engine/``) reserves a place in its queue, or refuses at the door.
4. A worker thread (``model/images.py``, ``model/prompt_encoder.py``) makes pixels and token ids, within limits.
5. The scheduler puts the prompt into a free slot; from then on it shares every decode step with all who run.
6. The runner (``model/runner.py``) runs each batch through transformers' own modules on the device thread.
7. Tokens are recorded after each step; who is done, cancelled or late leaves its slot before the next one.
8. Token ids become text, boxes and masks (``tasks/``), and the transport writes them with their timings.
"""
