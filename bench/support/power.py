"""The power of the registered claims of equivalence over folds, with the folds' own items and clusters.

python -m bench.support.power

Each is simulated at no difference, with the discordance and the variance between adapters that it was registered with.
Holm's correction tests a claim as one of as many as are not rejected before it: from one to its whole family.
"""

from fixtures import study
from fixtures.stats.power import LEVEL, equivalence_over_folds

TESTS = (1, 3, 8, 24)


def main():
    bench, claims = study.recorded_study(), study.claims_of(study.STUDY).values()
    print("| claim | margin | " + " | ".join(f"one of {n}" for n in TESTS) + " |")
    print("| --- | --- |" + " --- |" * len(TESTS))
    for claim in (claim for claim in claims if claim.says == "same"):
        items = [(fold, i) for fold in range(claim.folds) for i in bench.fold(fold).items.test_ids(claim.split)]
        clusters = bench.items.clusters_of(sorted({i for _, i in items}), claim.split)
        folds, of_item = [fold for fold, _ in items], [clusters[i] for _, i in items]
        p = equivalence_over_folds(folds, of_item, claim.discordance, claim.adapter_sd, claim.margin / claim.unit)
        family = sum(other.family == claim.family for other in claims)
        shares = [f"{(p < (1 - LEVEL) / 2 / n).mean():.2f}" if n <= family else "–" for n in TESTS]
        print(f"| {claim.id} | {claim.margin:g} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
