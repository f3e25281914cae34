"""What training minimises: the answers' tokens, what each patch shows, and where attention points. Only the first outlives training."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PaliGemmaForConditionalGeneration

from service.demo.network import HEADS, HIDDEN, PATCH
from service.demo.pages import Batch, Pointers
from service.demo.pool import CHARACTERS, SIGN
from service.demo.scenes import COLOURS, SHAPES
from service.demo.tokenizer import LOCATIONS, MASK_CODES

_SHAPE_CLASSES, _COLOUR_CLASSES, _CHARACTER_CLASSES = len(SHAPES) + 2, len(COLOURS) + 1, len(CHARACTERS) + 1
MEASURES = ("loss", "patches", "pointing", "shape", "character", "box error", "location error", "mask code", "text", "short answer")
"""What a step reports. Errors are in 1024ths of the side; the others are losses, then shares that are right."""


class Objective(nn.Module):
    """The network's own modules in a training forward, with heads that are thrown away."""

    def __init__(self, network: PaliGemmaForConditionalGeneration, first_location: int, first_code: int) -> None:
        super().__init__()
        self.network = network
        self.first_location = first_location
        self.first_code = first_code
        self.patch_head = nn.Linear(HIDDEN, _SHAPE_CLASSES + _COLOUR_CLASSES + 4 + 2 * _CHARACTER_CLASSES)

    def see(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss of the patch head, and the measures."""
        _, loss, right = self._look(batch)
        return loss, torch.cat([torch.stack([loss, loss, torch.zeros(())]), right, torch.zeros(4)]).detach()

    def answer(self, batch: Batch, near: Tensor, weights: tuple[float, float], packed: bool) -> tuple[Tensor, Tensor]:
        """The whole loss, and the measures. ``near`` [1024, 1024]: how much of each location target its neighbours get.

        ``weights`` of the patch and pointing losses.
        """
        seen, patch_loss, right = self._look(batch)
        features = self.network.model.multi_modal_projector(seen)
        if not packed:
            features = features[batch.picture]
        hidden, pointing = self._decode(features, batch, packed)
        logits = F.linear(hidden.flatten(0, 1)[batch.at], self.network.model.language_model.embed_tokens.weight)
        text_loss, text_right = self._token_loss(logits, batch, near)
        loss = text_loss + weights[0] * patch_loss + weights[1] * pointing
        measures = torch.cat([torch.stack([text_loss, patch_loss, pointing]), right, text_right])
        return loss, measures.detach()

    def _look(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Patch features [pictures, patches, hidden], the patch loss, and (shape right, characters right, box error)."""
        tower = self.network.model.vision_tower
        count, grid = batch.pictures.shape[0], batch.pictures.shape[1] // PATCH
        levels = (batch.pictures.float() / 127.5 - 1).view(count, grid, PATCH, grid, PATCH, 3)
        patches = levels.permute(0, 1, 3, 5, 2, 4).reshape(count, grid * grid, -1)
        embedding = tower.embeddings
        hidden = F.linear(patches, embedding.patch_embedding.weight.flatten(1), embedding.patch_embedding.bias)
        hidden = hidden + embedding.position_embedding.weight
        for layer in tower.encoder.layers:
            output = layer(hidden, None)
            hidden = output[0] if isinstance(output, tuple) else output
        hidden = tower.post_layernorm(hidden)
        loss, right = self._patch_loss(hidden.flatten(0, 1), batch)
        return hidden, loss, right

    def _patch_loss(self, patches: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        sizes = [_SHAPE_CLASSES, _COLOUR_CLASSES, 4, _CHARACTER_CLASSES, _CHARACTER_CLASSES]
        shape, colour, box, left, right = self.patch_head(patches).split(sizes, dim=1)
        true_shape, true_colour, true_box = batch.shape.flatten(), batch.colour.flatten(), batch.box.flatten(0, 1)
        there = (true_shape > 0).float()
        count = there.sum().clamp(min=1)
        shape_loss = (F.cross_entropy(shape, true_shape, reduction="none") * (1 + there)).mean()
        colour_loss = (F.cross_entropy(colour, true_colour, reduction="none") * (true_colour > 0)).sum() / count
        distance = (box - true_box).abs().sum(dim=1)
        box_loss = (distance * there).sum() / count
        true_characters = batch.characters.flatten(0, 1).T.flatten()
        on_sign = (true_shape == SIGN).float().repeat(2)
        characters = torch.cat([left, right])
        character_loss = (F.cross_entropy(characters, true_characters, reduction="none") * on_sign).sum() / on_sign.sum().clamp(min=1)
        with torch.no_grad():
            written = (true_characters > 0).float()
            right_shapes = ((shape.argmax(dim=1) == true_shape) * there).sum() / count
            right_characters = ((characters.argmax(dim=1) == true_characters) * written).sum() / written.sum().clamp(min=1)
            error = (distance * there).sum() / count / 4 * LOCATIONS
        return shape_loss + colour_loss + 2 * box_loss + character_loss, torch.stack([right_shapes, right_characters, error])

    def _decode(self, features: Tensor, batch: Batch, packed: bool) -> tuple[Tensor, Tensor]:
        """Hidden states of the text [rows, length, hidden] and the pointing loss.

        PaliGemma's own mask where a row holds one pair. Packed rows hold several that do not see one another, and the image sees no text.
        """
        decoder = self.network.model.language_model
        rows, length = batch.tokens.shape
        patches = features.shape[1]
        hidden = torch.cat([features, decoder.embed_tokens(batch.tokens)], dim=1)
        order = torch.arange(length)
        same = (batch.pair[:, :, None] == batch.pair[:, None]) & (batch.pair >= 0)[:, :, None]
        text = same & ((batch.answer == 0)[:, None] | (order[:, None] >= order[None])[None])
        image_to_text = torch.zeros(rows, patches, length, dtype=torch.bool)
        if not packed:
            image_to_text = ((batch.answer == 0) & (batch.pair >= 0))[:, None].expand(rows, patches, length)
        to_image = torch.ones(rows, patches + length, patches, dtype=torch.bool)
        mask = torch.cat([to_image, torch.cat([image_to_text, text], dim=1)], dim=2)[:, None]
        positions = torch.cat([torch.arange(patches)[None].expand(rows, patches), patches + batch.offset], dim=1) + 1
        rotary = decoder.rotary_emb(hidden, position_ids=positions)
        prefix_of_pair = same & (batch.answer == 0)[:, None]
        last = len(decoder.layers) - 1
        pointing = torch.zeros(())
        for index, layer in enumerate(decoder.layers):
            if index == 0:
                pointing = pointing + _pointing_loss(layer, 0, hidden, rotary, batch.words, None)
            if index == last - 2:
                pointing = pointing + _pointing_loss(layer, 3, hidden, rotary, batch.names, prefix_of_pair)
            if index >= last - 1:
                pointing = pointing + _pointing_loss(layer, 1 + last - index, hidden, rotary, batch.things, None)
            hidden = layer(hidden, attention_mask=mask, position_ids=positions, position_embeddings=rotary)
        return decoder.norm(hidden[:, patches:]), pointing

    def _token_loss(self, logits: Tensor, batch: Batch, near: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted cross entropy, location targets smoothed; and (location error, mask codes, other text, short answers right)."""
        log_probabilities = F.log_softmax(logits.float(), dim=-1)
        target, weight = batch.target, batch.weight
        is_location = (target >= self.first_location) & (target < self.first_location + LOCATIONS)
        is_code = (target >= self.first_code) & (target < self.first_code + MASK_CODES)
        loss = -log_probabilities.gather(1, target[:, None])[:, 0]
        bins = log_probabilities[:, self.first_location : self.first_location + LOCATIONS]
        smoothed = -(bins * near[(target - self.first_location).clamp(0, LOCATIONS - 1)]).sum(dim=1)
        loss = torch.where(is_location, smoothed, loss)
        with torch.no_grad():
            best = logits.argmax(dim=-1)
            text = ~(is_location | is_code) & (weight > 0)
            error = (best - target).abs().clamp(max=LOCATIONS - 1).float()
            right = (best == target).float()
            measured = [_mean(error, is_location), _mean(right, is_code), _mean(right, text), _mean(right, text & (weight > 1.5))]
        return (loss * weight).sum() / weight.sum(), torch.stack(measured)


def neighbours(spread: float) -> Tensor:
    """[1024, 1024]: each row a bell around its own bin, ``spread`` bins wide."""
    bins = torch.arange(LOCATIONS).float()
    bell = torch.exp(-0.5 * ((bins[:, None] - bins[None]) / spread) ** 2)
    return bell / bell.sum(dim=1, keepdim=True)


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    return (values * chosen).sum() / chosen.sum().clamp(min=1)


def _pointing_loss(
    layer: Any, head: int, hidden: Tensor, rotary: tuple[Tensor, Tensor], pointers: Pointers, allowed: Tensor | None
) -> Tensor:
    """How far one head's attention is from where ``pointers`` say: among the image's keys, or among the text keys of ``allowed``."""
    attention = layer.self_attn
    width = attention.head_dim
    part = slice(head * width, (head + 1) * width)
    keys = pointers.to.shape[1]
    patches = keys if allowed is None else hidden.shape[1] - keys
    keys_in = slice(0, patches) if allowed is None else slice(patches, hidden.shape[1])
    normed = layer.input_layernorm(hidden)
    at = pointers.at + patches
    cos, sin = rotary
    query = F.linear(normed[pointers.row, at], attention.q_proj.weight[part])
    key = F.linear(normed[:, keys_in], attention.k_proj.weight[part])
    query = query * cos[pointers.row, at] + _half_turn(query) * sin[pointers.row, at]
    key = key * cos[:, keys_in] + _half_turn(key) * sin[:, keys_in]
    scores = torch.einsum("pd,pkd->pk", query, key[pointers.row]) * width**-0.5
    if allowed is not None:
        # A padded pointer has no pair of its own; its one made-up target keeps the loss finite, and its weight is 0.
        scores = scores.masked_fill(~(allowed[pointers.row, pointers.at] | pointers.to), -1e9)
    missed = torch.logsumexp(scores, dim=1) - torch.logsumexp(scores.masked_fill(~pointers.to, -1e9), dim=1)
    return (missed * pointers.real).sum() / pointers.real.sum().clamp(min=1)


def _half_turn(x: Tensor) -> Tensor:
    low, high = x.chunk(2, dim=-1)
    return torch.cat([-high, low], dim=-1)


assert HEADS >= 4, "the pointing losses use four heads"  # noqa: S101 (a constant of this package, not input)
