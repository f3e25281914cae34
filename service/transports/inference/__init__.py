"""The Open Inference Protocol, version 2, without its wire: tensors to questions, answers to tensors."""
