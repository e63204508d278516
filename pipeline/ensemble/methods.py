"""The table of methods, in order of simplicity."""

from pipeline.ensemble.blend import fit_blend
from pipeline.ensemble.contract import Method, identity, unprepared
from pipeline.ensemble.greedy import fit_greedy
from pipeline.ensemble.means import fit_equal, linear, log_linear, logs
from pipeline.ensemble.rank import codes, fit_power, rank_link, ranks
from pipeline.ensemble.votes import fit_log_odds, vote_link

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("uniform", unprepared, identity, fit_equal, linear, 0),
        Method("geometric", unprepared, logs, fit_equal, log_linear, 1),
        Method("rank", codes, ranks, fit_power, rank_link, 2),
        Method("vote", unprepared, identity, fit_equal, vote_link, 3),
        Method("weighted_vote", unprepared, identity, fit_log_odds, vote_link, 4),
        Method("greedy", unprepared, identity, fit_greedy, linear, 5),
        Method("blend", unprepared, identity, fit_blend, linear, 6),
    )
}
