#!/usr/bin/env python3
"""Writes stats.json: what scipy and statsmodels answer on generated cases, for the tests of src/stats. `make reference-stats`
runs it.

usage: make_stats.py [FILE]
"""
import json
import sys
import warnings
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import scipy
import statsmodels
import statsmodels.api as sm
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

OUT = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent / "stats.json"
RANDOM = np.random.default_rng(20)


def interval(differences):
    found = stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)
    return [float(found.low), float(found.high)]


def mcnemar_cases():
    for documents, right, better in [(40, 0.5, 0.0), (100, 0.3, 0.2), (817, 0.4, 0.03), (1000, 0.9, 0.05), (200, 0.02, 0.0), (30, 0.0, 0.9)]:
        first = (RANDOM.random(documents) < right).astype(float)
        flipped = RANDOM.random(documents) < 0.3
        second = np.where(flipped, (RANDOM.random(documents) < right + better).astype(float), first)
        gained, lost = int(((second == 1) & (first == 0)).sum()), int(((second == 0) & (first == 1)).sum())
        both, neither = int(((second == 1) & (first == 1)).sum()), int(((second == 0) & (first == 0)).sum())
        found = mcnemar([[both, lost], [gained, neither]], exact=True)
        yield {"first": first.tolist(), "second": second.tolist(), "p": float(found.pvalue), "interval": interval(second - first)}


def sign_flip_cases():
    for documents, shift, step in [(3, 0.1, 0), (8, 0.0, 0), (12, 0.4, 0), (16, 0.2, 0), (14, 0.3, 0.25), (10, 0.0, 0.5)]:
        first, second = RANDOM.normal(size=documents), RANDOM.normal(size=documents) + shift
        if step:
            first, second = np.round(first / step) * step, np.round(second / step) * step
        found = stats.permutation_test((second, first), lambda a, b, axis: np.mean(a - b, axis=axis), permutation_type="samples", vectorized=True, n_resamples=np.inf)
        yield {"first": first.tolist(), "second": second.tolist(), "p": float(found.pvalue), "interval": interval(second - first)}


def sampled_cases():
    """Too many documents to count: the normal approximation says about what drawing must say."""
    for documents, shift in [(100, 0.1), (817, 0.0), (817, 0.06), (250, -0.15)]:
        first, second = RANDOM.random(documents), RANDOM.random(documents) + shift
        d = second - first
        z = abs(d.sum()) / np.sqrt((d ** 2).sum())
        yield {"first": first.tolist(), "second": second.tolist(), "p": float(2 * stats.norm.sf(z)), "interval": interval(d)}


def welch_cases():
    for a, b, shift, spread in [(3, 3, 0.0, 1.0), (3, 5, 1.0, 3.0), (2, 2, 0.5, 0.1), (8, 4, -2.0, 0.5)]:
        first, second = RANDOM.normal(size=a), RANDOM.normal(scale=spread, size=b) + shift
        found = stats.ttest_ind(second, first, equal_var=False)
        ends = found.confidence_interval(0.95)
        yield {"first": first.tolist(), "second": second.tolist(), "p": float(found.pvalue), "interval": [float(ends.low), float(ends.high)]}


def holm_cases():
    for count in (1, 2, 6, 20):
        p = RANDOM.random(count) ** 3
        if count > 5:
            p[1] = p[0]
        yield {"p": p.tolist(), "adjusted": multipletests(p, method="holm")[1].tolist()}


def anova_cases():
    """A full grid: sums of squares of the model with every interaction, one value a cell, over their total. A grid with holes: what
    the additive model loses without an axis (type II)."""
    for shape, keep in [((3, 2), 1.0), ((2, 3, 4), 1.0), ((6, 6), 0.7), ((3, 3, 3), 0.6)]:
        names = "abc"[: len(shape)]
        cells = [cell for cell in product(*map(range, shape))]
        if keep < 1.0:
            cells = [cell for cell in cells if RANDOM.random() < keep]
        effects = [RANDOM.normal(scale=2.0 ** -n, size=size) for n, size in enumerate(shape)]
        values = [sum(effects[n][level] for n, level in enumerate(cell)) + RANDOM.normal(scale=0.2) for cell in cells]
        frame = pd.DataFrame(cells, columns=list(names))
        frame["y"] = values
        terms = [f"C({name})" for name in names]
        case = {"axes": list(names), "cells": [list(cell) for cell in cells], "values": values, "complete": keep == 1.0}
        total = float(((frame.y - frame.y.mean()) ** 2).sum())
        if keep == 1.0:
            pairs = [f"C({a}):C({b})" for n, a in enumerate(names) for b in names[n + 1:]]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                table = sm.stats.anova_lm(ols("y ~ " + " + ".join(terms + pairs), frame).fit(), typ=1)
            case["pairs"] = {pair.replace("C(", "").replace(")", ""): float(table.sum_sq[pair]) / total for pair in pairs}
        else:
            fit = ols("y ~ " + " + ".join(terms), frame).fit()
            table = sm.stats.anova_lm(fit, typ=2)
            # What each level adds to the first one.
            case["added"] = {name: [float(fit.params.get(f"C({name})[T.{level}]", 0.0)) for level in sorted(frame[name].unique())] for name in names}
        case["importance"] = {name: float(table.sum_sq[term]) / total for name, term in zip(names, terms)}
        yield case


def exchange_cases():
    """Perplexities by words: texts exchanged between the two, each choice counted, and the jackknife's interval."""
    for documents, shift in [(4, 0.3), (9, 0.0), (12, 0.1)]:
        words = RANDOM.integers(5, 60, size=documents)
        sums = [-words * RANDOM.uniform(2.0, 4.0, size=documents) for _ in range(2)]
        sums[1] += words * shift
        all_sums, all_words = np.concatenate(sums), np.concatenate([words, words])

        def perplexity(places):
            return np.exp(-all_sums[places].sum(axis=-1) / all_words[places].sum(axis=-1))

        def difference(second, first, axis):
            return perplexity(np.moveaxis(second, axis, -1)) - perplexity(np.moveaxis(first, axis, -1))

        places = np.arange(documents)
        found = stats.permutation_test((places + documents, places), difference, permutation_type="samples", vectorized=True, n_resamples=np.inf)
        left = np.array([difference(np.delete(places, n) + documents, np.delete(places, n), -1) for n in places])
        error = np.sqrt((documents - 1) / documents * ((left - left.mean()) ** 2).sum())
        half = stats.t.ppf(0.975, documents - 1) * error
        parts = [np.stack([own, words], axis=1).astype(float).tolist() for own in sums]
        yield {"first": parts[0], "second": parts[1], "difference": float(found.statistic), "p": float(found.pvalue), "interval": [float(found.statistic - half), float(found.statistic + half)]}


def main():
    cases = {
        "made_by": f"scipy {scipy.__version__}, statsmodels {statsmodels.__version__}",
        "mcnemar": list(mcnemar_cases()), "sign_flip": list(sign_flip_cases()), "sign_flip_drawn": list(sampled_cases()),
        "welch": list(welch_cases()), "holm": list(holm_cases()), "anova": list(anova_cases()),
        "exchange": list(exchange_cases()),
    }
    OUT.write_text(json.dumps(cases, separators=(",", ":")) + "\n")


main()
