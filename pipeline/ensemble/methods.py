"""The table of methods, in order of simplicity; `+temperature` and the like behind a name calibrate it."""

from pipeline.ensemble.blend import fit_blend, refit_blend
from pipeline.ensemble.calibrations import CALIBRATIONS, calibrated
from pipeline.ensemble.class_weights import class_weights_link, fit_class_weights
from pipeline.ensemble.contract import Method
from pipeline.ensemble.greedy import fit_greedy, refit_greedy
from pipeline.ensemble.logistic import fit_logistic, logistic_link
from pipeline.ensemble.means import fit_equal, fit_exponent, linear, log_linear, power_mean
from pipeline.ensemble.rank import fit_power, rank_link
from pipeline.ensemble.votes import fit_log_odds, soft_count, vote_link

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("uniform", fit_equal, linear, 0, learns=False, linear=True),
        Method("geometric", fit_equal, log_linear, 1, learns=False),
        Method("power", fit_exponent, power_mean, 2),
        Method("rank", fit_power, rank_link, 3),
        Method("vote", fit_equal, vote_link, 4, learns=False),
        Method("soft_vote", fit_equal, soft_count, 5, learns=False),
        Method("weighted_vote", fit_log_odds, vote_link, 6),
        Method("greedy", fit_greedy, linear, 7, linear=True, refit=refit_greedy),
        Method("blend", fit_blend, linear, 8, linear=True, refit=refit_blend),
        Method("class_weights", fit_class_weights, class_weights_link, 9),
        Method("stack_logistic", fit_logistic, logistic_link, 10),
    )
}


def find(name: str, table: dict[str, Method]) -> Method:
    """The method of a name like `blend` or `blend+temperature`; raises KeyError."""
    base, _, calibration = name.partition("+")
    if not calibration:
        return table[base]
    if calibration not in CALIBRATIONS:
        raise KeyError(calibration)
    return calibrated(table[base], calibration)
