"""``python -m service.demo.part_codes``: trains the family's adapter, which calls shapes by codes. It shows how teams make their own.

The base stays as it is; a LoRA adapter of rank 8 on the decoder learns the new labels. peft, a development tool here, trains and writes it.
"""

import argparse
import json
import re
import time
from importlib.metadata import version
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from tqdm import tqdm
from transformers import PaliGemmaForConditionalGeneration, PreTrainedTokenizerFast

from service.demo.codec import CodecPlan, MaskCodec, train_codec
from service.demo.family import ADAPTER, CHECKPOINTS, FAMILY
from service.demo.lessons import Teacher
from service.demo.objective import MEASURES, Objective, neighbours
from service.demo.pages import Layout
from service.demo.pool import Canvas, make_pool, open_pool
from service.demo.questions import PLURALS

CODES = {"circle": "A", "square": "B", "triangle": "C", "star": "D", "cross": "E", "heart": "F"}
BASE = FAMILY[0].checkpoint
LAYOUT = Layout(pictures=6, pairs=3, packed=False, length=72, targets=480, points=8)
LINEAR = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"

_NAMES = CODES | {PLURALS[shape]: code for shape, code in CODES.items()}
_ANY = re.compile(rf"\b({'|'.join(sorted(_NAMES, key=len, reverse=True))})\b")


def coded(text: str) -> str:
    """The same with codes for shapes: "detect red A"."""
    return _ANY.sub(lambda found: _NAMES[found[0]], text)


def train(work: Path, out: Path, steps: int, scenes: int, seed: int) -> None:
    """Train on fresh scenes, and write the adapter as peft does."""
    torch.manual_seed(seed)
    began = time.monotonic()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(CHECKPOINTS / BASE)
    network = PaliGemmaForConditionalGeneration.from_pretrained(CHECKPOINTS / BASE, dtype=torch.float32)
    network.name_or_path = BASE
    network.config._name_or_path = BASE
    _draw(work, scenes, seed)
    adapted = get_peft_model(network, LoraConfig(r=8, lora_alpha=16, target_modules=LINEAR, task_type="CAUSAL_LM"))
    first_location, first_code = (int(tokenizer.convert_tokens_to_ids(token)) for token in ("<loc0000>", "<seg000>"))
    objective = Objective(network, first_location, first_code)
    weights = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=4e-3, weight_decay=0.0, betas=(0.9, 0.98))
    teacher = Teacher(open_pool(work / "pool"), tokenizer, [seed], absent_share=0.2, wording=coded)
    near, sums = neighbours(0.4), torch.zeros(len(MEASURES))
    with tqdm(total=steps, desc="part codes", mininterval=5) as bar:
        for step, batch in zip(range(steps), teacher.batches(LAYOUT), strict=False):
            for group in optimiser.param_groups:
                group["lr"] = 4e-3 * min(1.0, (step + 1) / 30) * (1 - step / steps)
            loss, measures = objective.answer(batch, near, (0.0, 0.0), packed=False)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            sums += measures
            bar.update()
            if (step + 1) % 50 == 0:
                told = {name: round(value, 3) for name, value in zip(MEASURES, (sums / 50).tolist(), strict=True)}
                bar.write(json.dumps({"step": step + 1, **told}))
                sums = torch.zeros(len(MEASURES))
    adapted.half().save_pretrained(str(out))
    (out / "README.md").unlink(missing_ok=True)
    record = {
        "command": "python -m service.demo.part_codes", "base": BASE, "steps": steps, "scenes": scenes, "seed": seed,
        "seconds": round(time.monotonic() - began), "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
    }  # fmt: skip
    (out / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    for file in out.iterdir():
        file.chmod(0o644)


def _draw(work: Path, scenes: int, seed: int) -> None:
    """Scenes, unless they are there. Their mask codes must be the base's: an encoder is learnt for its decoder."""
    saved = work / "codec.pt"
    if not saved.exists():
        work.mkdir(parents=True, exist_ok=True)
        torch.save(train_codec(CodecPlan(), seed, load_file(CHECKPOINTS / BASE / "mask_decoder.safetensors")).state_dict(), saved)
    codec = MaskCodec().eval()
    codec.load_state_dict(torch.load(saved, weights_only=True))
    make_pool(work / "pool", Canvas(), scenes, seed, codec, 1)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the family's adapter, on a CPU.")
    parser.add_argument("--work-dir", type=Path, default=Path("build/demo/part-codes"))
    parser.add_argument("--out", type=Path, default=ADAPTER)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--scenes", type=int, default=6_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    train(asked.work_dir, asked.out, asked.steps, asked.scenes, asked.seed)


if __name__ == "__main__":
    main()
