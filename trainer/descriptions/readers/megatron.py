"""Tokens that another framework prepared."""

from __future__ import annotations

from trainer.descriptions.readers import ReaderDescription


class Megatron(ReaderDescription):
    """Megatron-LM's tokens."""

    name = "megatron"
    help = "tokens that Megatron-LM's preprocessing made: <prefix>.idx and <prefix>.bin"
    implementation = "trainer.data.megatron:token_documents"
    suffixes = (".idx",)
    magic = (b"MMIDIDX\x00\x00",)
    unpacks = False
    beside = ".bin"
