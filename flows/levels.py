"""What a rollback does, and a promotion. Read a row left to right: in these levels,
do this, prove it held, or else take it back this way.

A row that names a layer runs only where the move changes that layer; `OTHERS`
are all layers that are not built in, each an adapter of the user's own. Before
the proof everything can be taken back; what settles comes after it.
"""

from ebbtide.core.saga import OTHERS, REMADE, Level, Phase
from ebbtide.core.saga import ROLLBACKS as BACK
from ebbtide.core.step import gate, nothing, step
from tasks import (
    cache,
    contents,
    data,
    effects,
    features,
    gates,
    golden,
    left,
    model,
    others,
    outputs,
    own,
    prompt,
    quality,
    quarantine,
    route,
    settings,
    target,
    writers,
)

ROLLBACKS = frozenset(BACK)
ALL = frozenset(Level)
WHOLE = ALL - {Level.MODEL}
OTHER_DATA = frozenset({Level.DATA, Level.REFRESH})
DEEPER = ROLLBACKS - {Level.MODEL}

AHEAD, ASIDE, CUT, PROVE, SETTLE = Phase

# fmt: off
STEPS = (
    # phase       levels  do                         prove                        or else take back
    gate(AHEAD,   ALL,                               gates.target_is_allowed),
    gate(AHEAD,   ALL,                               gates.layers_are_compatible),
    gate(AHEAD,   ALL,                               gates.target_is_restorable),
    gate(AHEAD,   ROLLBACKS,                         contents.features_are_fresh),
    gate(AHEAD,   OTHER_DATA,                        contents.data_meet_expectations),
    gate(AHEAD,   ALL,                               own.preflight_gates_pass),

    step(ASIDE,   REMADE, features.remake,           features.remade_are_whole,   nothing,                 layer="features"),
    step(ASIDE,   WHOLE,  features.materialise,      features.features_are_whole, nothing,                 layer="features"),
    gate(ASIDE,   REMADE,                            contents.features_meet_expectations),
    gate(ASIDE,   REMADE,                            contents.features_fit_signature),
    gate(ASIDE,   REMADE,                            contents.features_are_like_before),
    step(ASIDE,   REMADE, model.find_or_train,       model.is_of_this_lineage,    nothing,                 layer="model"),
    gate(ASIDE,   REMADE,                            quality.trained_as_well),
    step(ASIDE,   REMADE, target.record,             target.is_recorded,          nothing),
    gate(ASIDE,   REMADE,                            gates.made_layers_fit),
    step(ASIDE,   WHOLE,  others.prepare,            others.are_ready,            nothing,                 layer=OTHERS),
    step(ASIDE,   ALL,    route.warm_target,         route.target_is_warm,        route.return_candidate),
    step(ASIDE,   ALL,    golden.record_snapshot,    golden.snapshot_is_there,    nothing),

    step(CUT,     ALL,    effects.hold,              effects.are_held,            effects.let_go,          where=effects.are_set_off),
    step(CUT,     WHOLE,  writers.hold,              writers.are_held,            writers.let_go,          layer="data"),
    step(CUT,     ALL,    cache.leave_epoch,         cache.epoch_is_left,         cache.rejoin_epoch),
    step(CUT,     ALL,    route.switch,              route.replicas_agree,        route.return_route),
    step(CUT,     WHOLE,  data.restore_tables,       data.fingerprints,           data.return_tables,      layer="data"),
    step(CUT,     WHOLE,  features.repoint_link,     features.link_and_digest,    features.return_link,    layer="features"),
    step(CUT,     ALL,    model.repoint_alias,       model.alias_and_hash,        model.return_alias,      layer="model"),
    step(CUT,     WHOLE,  prompt.repoint_prompt,     prompt.prompt_and_hash,      prompt.return_prompt,    layer="prompt"),
    step(CUT,     WHOLE,  settings.publish_config,   settings.config_as_pinned,   settings.return_config,  layer="config"),
    step(CUT,     ALL,    settings.publish_infra,    settings.infra_as_pinned,    settings.return_infra,   layer="infra"),
    step(CUT,     WHOLE,  others.follow,             others.show_target,          others.return_all,       layer=OTHERS),
    step(CUT,     ALL,    cache.start_epoch,         cache.epoch_is_the_routes,   cache.leave_epoch_again),

    gate(PROVE,   ALL,                               golden.answers_smoke_requests),
    gate(PROVE,   ALL,                               golden.same_golden_answers),
    gate(PROVE,   ALL,                               own.proof_gates_pass),

    step(SETTLE,  ALL,    route.keep,                route.is_kept,               nothing),
    step(SETTLE,  ROLLBACKS, quarantine.deny_source, quarantine.source_is_denied, nothing),
    step(SETTLE,  ROLLBACKS, effects.settle,         effects.are_settled,         nothing, where=effects.are_set_off),
    step(SETTLE,  ALL,    effects.resume,            effects.goes_on,             nothing,                 where=effects.are_set_off),
    step(SETTLE,  ROLLBACKS, outputs.recall,         outputs.are_recalled,        nothing, where=outputs.are_kept),
    step(SETTLE,  ALL,    cache.drop_dead_entries,   cache.dead_entries_are_gone, nothing),
    step(SETTLE,  DEEPER, left.keep_rows,            left.rows_are_kept,          nothing,                 layer="data"),
    step(SETTLE,  WHOLE,  writers.release,           writers.are_released,        nothing),
)
# fmt: on
