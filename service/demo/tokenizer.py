"""The demo's small vocabulary, as a fast tokenizer of Gemma's kind.

Blanks become U+2581, the newline is a token, and any other text falls back to bytes.
"""

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from service.demo.questions import PLURALS
from service.demo.scenes import COLOURS, SHAPES

BLANK = "▁"
LOCATIONS = 1024
MASK_CODES = 128
SPECIAL = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
_AT_THE_START = "caption cap describe answer detect segment ocr what how is are yes no sign the there nothing What How Is Are".split()
_AFTER_A_BLANK = (
    "en how many are there what color colour shape shapes is the a an and of does sign say on in text number image picture objects object "
    "where which it to yes no ; What How Is Are"
).split()


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Number pad 0, eos 1, bos 2, unk 3; then bytes; words; characters; newline; image; locations; mask codes."""
    things = [*COLOURS, *SHAPES]
    words = [*_AT_THE_START, *things, *(BLANK + word for word in [*_AFTER_A_BLANK, *things, *PLURALS.values()])]
    characters = [chr(code) for code in range(33, 127)] + [BLANK]
    scores = [(token, 0.0) for token in SPECIAL.values()]
    scores += [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
    scores += [(piece, -5.0) for piece in dict.fromkeys(words) if len(piece) > 1]
    scores += [(character, -10.0) for character in characters]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=3, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", BLANK)
    tokenizer.decoder = decoders.Sequence([decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_tokens([AddedToken("\n", normalized=False)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **SPECIAL, extra_special_tokens={"image_token": "<image>"}, padding_side="left", model_max_length=1024
    )
    fast.add_tokens([f"<loc{index:04d}>" for index in range(LOCATIONS)] + [f"<seg{index:03d}>" for index in range(MASK_CODES)])
    return fast
