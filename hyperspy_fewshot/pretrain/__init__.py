"""Training of encoders on synthetic classes; see ``python -m hyperspy_fewshot.pretrain --help``.

A :class:`~.corpus.Corpus` draws specimens, :class:`~.training.Training` trains a network on them,
and a recipe lists the corpora of a bundled encoder.
"""
