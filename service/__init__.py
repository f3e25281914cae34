"""PaliServe serves PaliGemma. The life of a request:

1. A transport (``transports/``) turns bytes into an image and arguments and calls one task.
2. The task (``tasks/``) writes the prefix the model was trained on and asks ``instances/`` which instance answers.
3. The instance's engine (``engine/``) reserves a place in its queue, or refuses at the door.
4. An image worker (``model/image_workers.py``) makes pixels, a thread token ids, or the vision cache has the picture.
5. The least busy process of the device (``engine/workers.py``) takes it; its scheduler puts the prompt into a free slot.
6. The runner (``model/runner.py``) encodes, prefills, and from then on decodes it together with all who run.
7. Tokens are recorded after each step; who is done, cancelled or late leaves its slot before the next one.
8. Token ids become text, boxes and masks (``tasks/``), and the transport writes them with their timings.
"""
