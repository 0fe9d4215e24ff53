"""What the dashboard shows, panel by panel: what is measured, what is bad, what to do at three in the morning.

It knows nothing of Grafana's JSON: that is dashboard.py. Names and meanings of the metrics: consumer/metrics.py.
"""

from typing import NamedTuple


class Query(NamedTuple):
    expr: str
    """Each worker by itself: two of them may learn the same events, and a sum over them would mean nothing."""
    legend: str
    """`dashboard.py` adds which worker it is."""


class Panel(NamedTuple):
    title: str
    unit: str
    """Grafana's name of it."""
    bad: str
    do: str
    queries: list[Query]
    limit: float | None = None
    """Drawn as a red line: where the alert rule stands."""
    stacked: bool = False


def quantile(of: float, bucket: str, by: str = "le") -> str:
    return f"histogram_quantile({of}, sum by (instance, {by}) (rate({bucket}[$__rate_interval])))"


ROWS: dict[str, list[Panel]] = {
    "Is it fresh?": [
        Panel(
            title="Freshness: from sending an event to its user's new list",
            unit="s",
            bad="p99 above the red line: people act, and their lists do not follow.",
            do="Look at the lag beside this. Lag grows: too much for one worker. Lag is flat: see which "
            "stage takes the time.",
            queries=[
                Query(quantile(0.5, "headrace_freshness_seconds_bucket"), "p50"),
                Query(quantile(0.99, "headrace_freshness_seconds_bucket"), "p99"),
            ],
            limit=1,
        ),
        Panel(
            title="Lag: records not taken yet",
            unit="short",
            bad="It grows for minutes on end, or stands above 0 while no event is taken.",
            do="A replay or a burst passes. Otherwise raise HEADRACE_BATCH_SIZE or lower "
            "HEADRACE_QUALITY_SHARE; if nothing moves, check the broker, then restart the worker.",
            queries=[Query("sum by (instance, partition) (headrace_consumer_lag_records)", "partition {{partition}}")],
            stacked=True,
        ),
        Panel(
            title="Lag: how far behind the topic",
            unit="s",
            bad="It comes near the retention of the events topic: beyond that, events are lost unread.",
            do="Raise retention.ms of the events topic first, then look for what holds the worker up.",
            queries=[Query("max by (instance) (headrace_consumer_lag_seconds)", "lag")],
        ),
    ],
    "Does it keep up?": [
        Panel(
            title="Events by outcome",
            unit="ops",
            bad="Dead letters above one in a hundred, duplicates in a flood, or no events at all in the daytime.",
            do="Dead letters: read error.reason and error.detail on the dead-letter topic, and call the "
            "team of that producer. None at all: is the producer up?",
            queries=[
                Query("sum by (instance, outcome) (rate(headrace_events_total[$__rate_interval]))", "{{outcome}}")
            ],
            stacked=True,
        ),
        Panel(
            title="Recommendations by outcome",
            unit="ops",
            bad="Nothing published while events are learned; or all unchanged, which means that lists no "
            "longer follow the events.",
            do="Nothing published: the log names the delivery that failed; check the broker and the "
            "recommendations topic.",
            queries=[
                Query(
                    "sum by (instance, outcome) (rate(headrace_recommendations_total[$__rate_interval]))", "{{outcome}}"
                )
            ],
            stacked=True,
        ),
        Panel(
            title="Where the time goes: busy seconds a second, by stage",
            unit="percentunit",
            bad="The sum without `take` is near 100 %: the worker has no air left and lag follows.",
            do="topk: fewer items or a smaller K, or a GPU. checkpoint: the disk, or a larger "
            "HEADRACE_CHECKPOINT_SECONDS. publish: the broker.",
            queries=[
                Query("sum by (instance, stage) (rate(headrace_stage_seconds_sum[$__rate_interval]))", "{{stage}}")
            ],
            stacked=True,
        ),
        Panel(
            title="Slowest of a hundred, by stage",
            unit="s",
            bad="One stage jumps away from its usual height.",
            do="It is the one to look into: its name is the name of the file in consumer/ or model/.",
            queries=[
                Query(quantile(0.99, "headrace_stage_seconds_bucket", by="stage, le"), "{{stage}}"),
            ],
        ),
        Panel(
            title="Events in a step",
            unit="short",
            bad="Always at HEADRACE_BATCH_SIZE: the worker never catches up with the topic.",
            do="Nothing while a replay runs. Otherwise raise HEADRACE_BATCH_SIZE: larger steps cost less "
            "an event, and freshness a little.",
            queries=[
                Query(quantile(0.5, "headrace_batch_events_bucket"), "p50"),
                Query(quantile(0.99, "headrace_batch_events_bucket"), "p99"),
            ],
        ),
    ],
    "Does it recommend well?": [
        Panel(
            title="Hit ratio at 10, ranked before learning, beside plain popularity",
            unit="percentunit",
            bad="The model under popularity for half an hour: a list of the most popular items would "
            "serve people better.",
            do="Look for a jump in drift or loss and for what changed in the events (ids, actions, "
            "bots). If it began at a known time, start again from an older checkpoint.",
            queries=[
                Query("headrace_prequential_hit_ratio", "model"),
                Query("headrace_popularity_hit_ratio", "popularity"),
            ],
        ),
        Panel(
            title="NDCG at 10, ranked before learning",
            unit="percentunit",
            bad="It falls while the hit ratio stays: the right items are in the list, and further down.",
            do="Nothing tonight. Compare with the loss and with the last change of settings.",
            queries=[Query("headrace_prequential_ndcg", "NDCG")],
        ),
        Panel(
            title="Rating error (mean absolute), predicted before learning",
            unit="short",
            bad="It rises and stays: predictions of ratings have become worse than they were.",
            do="Did the scale change (HEADRACE_RATING_MIN, _MAX), or did another source of ratings begin?",
            queries=[Query("headrace_prequential_mae", "MAE")],
        ),
        Panel(
            title="Hit ratio at 10 of cold and of warm users",
            unit="percentunit",
            bad="Cold users below popularity: newcomers get lists that a plain list of the most popular would beat.",
            do="Did ids change, so that everybody looks new? Otherwise nothing tonight: compare with last week.",
            queries=[
                Query('headrace_quality{measure="hit_ratio", cohort=~"cold|warm"}', "{{cohort}}"),
                Query(
                    'headrace_quality{measure="popularity_hit_ratio", cohort=~"cold|warm"}', "popularity, {{cohort}}"
                ),
            ],
        ),
        Panel(
            title="Ratings above the user's mean: how often that was foreseen",
            unit="percentunit",
            bad="Accuracy near a half: the rating head knows nothing of what people like.",
            do="Did the scale change (HEADRACE_RATING_MIN, _MAX)? Otherwise nothing tonight.",
            queries=[
                Query('headrace_quality{measure=~"liked_.*", cohort="all"}', "{{measure}}"),
            ],
        ),
        Panel(
            title="Log-loss by cohort, in nats",
            unit="short",
            bad="It climbs for hours, or jumps: what people choose surprises the model more than it did.",
            do="Look at drift beside it, and for what changed in the events (ids, actions, bots).",
            queries=[Query('headrace_quality{measure="log_loss"}', "{{cohort}}")],
        ),
        Panel(
            title="Coverage: share of the items that stand in any of the newest lists",
            unit="percentunit",
            bad="It falls towards 0: everybody is shown the same few items.",
            do="Did a few items flood the events (bots, a campaign)? If it follows the traffic, nothing tonight.",
            queries=[Query('headrace_quality{measure="coverage"}', "{{cohort}}")],
        ),
        Panel(
            title="Novelty of the lists, in bits",
            unit="short",
            bad="It falls with coverage: lists have become a chart of what is popular anyway.",
            do="Nothing tonight. Compare with the hit ratio: lists may be plainer and better.",
            queries=[Query('headrace_quality{measure="novelty"}', "{{cohort}}")],
        ),
        Panel(
            title="Events that these figures rest on",
            unit="ops",
            bad="0 while events are learned: the quality figures stand still and say nothing.",
            do="HEADRACE_QUALITY_SHARE above 0? Only ratings and actions of positive weight are ranked.",
            queries=[
                Query("sum by (instance) (rate(headrace_prequential_samples_total[$__rate_interval]))", "ranked events")
            ],
        ),
        Panel(
            title="Loss, by head",
            unit="short",
            bad="A jump or a steady climb. (A loss that is not a number moves no weight; the worker goes on, and "
            "`Refused steps` counts it.)",
            do="Lower HEADRACE_LEARNING_RATE (HEADRACE_RATING_LEARNING_RATE for ratings) and start again from the "
            "newest checkpoint before the jump: move those after it out of HEADRACE_CHECKPOINT_DIR.",
            queries=[Query("headrace_loss", "{{kind}}")],
        ),
        Panel(
            title="Learning rate of the ranking head",
            unit="short",
            bad="Above HEADRACE_LEARNING_RATE for hours: drift raises it, and it should come back within some "
            "thousand events.",
            do="Nothing tonight. If alarms go on and on, set HEADRACE_DRIFT_BOOST to 1 and look at the events.",
            queries=[Query("headrace_learning_rate", "rate")],
        ),
        Panel(
            title="Drift: how often a cohort's live error rose for good",
            unit="short",
            bad="Several in an hour: what people do is changing faster than usual, or the events have "
            "changed their meaning.",
            do="Read it together with the hit ratio: only if that falls too is there something to mend.",
            queries=[Query("sum by (instance) (increase(headrace_drift_total[1h]))", "in the last hour")],
        ),
        Panel(
            title="Records of the catalogue by outcome",
            unit="ops",
            bad="Rejected grows: somebody sends what is no item or no user, and what was known of those ids stays.",
            do="The worker's log names the records. Call the team that sends the catalogue; nothing else suffers.",
            queries=[
                Query(
                    "sum by (instance, kind, outcome) (rate(headrace_catalogue_rows_total[$__rate_interval]))",
                    "{{kind}} {{outcome}}",
                )
            ],
        ),
        Panel(
            title="Lists put off",
            unit="s",
            bad="Above 0 for minutes: events come faster than lists are made, and each user gets only the newest.",
            do="A burst passes by itself. If it lasts, give the worker a faster core or a GPU, or lower HEADRACE_K.",
            queries=[Query("max by (instance) (headrace_list_staleness_seconds)", "oldest event without its list")],
        ),
        Panel(
            title="Recall of fast lists",
            unit="percentunit",
            bad="Below HEADRACE_TOPK_RECALL for long: all lists are exact then, and slower.",
            do="Nothing for the lists themselves. Set HEADRACE_TOPK to exact, or a lower HEADRACE_TOPK_RECALL.",
            queries=[Query("min by (instance) (headrace_topk_recall_ratio)", "recall")],
        ),
        Panel(
            title="Refused steps: loss or gradient was not finite",
            unit="short",
            bad="Anything but 0: those events were counted and ranked, but taught the shared weights nothing.",
            do="Lower the rate that the worker's log names, or the weights of actions. If steps are refused after that "
            "too, weights have run away: go back to a checkpoint from before, or begin anew; the log says how.",
            queries=[Query("sum by (instance) (increase(headrace_refused_steps_total[1h]))", "in the last hour")],
        ),
    ],
    "Will it survive the night?": [
        Panel(
            title="Alerts that fire",
            unit="short",
            bad="Anything at all: a page needs somebody now, a ticket can wait for the morning.",
            do="The page /alerts of Prometheus has the text of each: what is wrong, and what to do.",
            queries=[
                Query(
                    'count by (alertname, severity) (ALERTS{alertname=~"Headrace.+", alertstate="firing"})',
                    "{{severity}}: {{alertname}}",
                )
            ],
        ),
        Panel(
            title="Age of the newest checkpoint",
            unit="s",
            bad="Above the red line and twice what is set while events are learned: a crash would have to read all "
            "that time again.",
            do="The disk of HEADRACE_CHECKPOINT_DIR is slow or hangs, or the broker does not acknowledge lists: a "
            "checkpoint waits for both. On a full or read-only disk the worker ends: see `Is the worker there?`.",
            queries=[
                Query("max by (instance) (headrace_checkpoint_interval_seconds)", "HEADRACE_CHECKPOINT_SECONDS"),
                Query("max by (instance) (headrace_checkpoint_age_seconds)", "age"),
            ],
            limit=300,
        ),
        Panel(
            title="Time to save a checkpoint",
            unit="s",
            bad="It comes near HEADRACE_CHECKPOINT_SECONDS: one save follows the other. Lists only wait for the pause.",
            do="A slow or busy disk, mostly. Raise HEADRACE_CHECKPOINT_SECONDS until it is mended.",
            queries=[
                Query("headrace_checkpoint_seconds", "newest"),
                Query("headrace_checkpoint_pause_seconds", "of it the loop waited"),
            ],
        ),
        Panel(
            title="Model version: the number of the step",
            unit="short",
            bad="Flat while the lag is above 0 (it stands still), or lower than before (an old checkpoint "
            "was restored).",
            do="Flat: see the lag. Lower: the log of the last start says which checkpoint was taken, and why.",
            queries=[Query("max by (instance) (headrace_model_version)", "version")],
        ),
        Panel(
            title="Rows of the vocabulary",
            unit="short",
            bad="A steep climb: somebody sends random ids, and memory follows.",
            do="See the memory of the worker; find the producer by the keys of the events topic and stop it.",
            queries=[Query("sum by (instance, kind) (headrace_vocabulary_rows)", "{{kind}}")],
        ),
        Panel(
            title="Rows given back",
            unit="ops",
            bad="It runs all the time: the tables are too small for those who are active, and people are "
            "forgotten too soon.",
            do="Nothing tonight. Raise HEADRACE_MAX_USERS or HEADRACE_MAX_ITEMS, if the memory allows it.",
            queries=[
                Query("sum by (instance, kind) (rate(headrace_evicted_rows_total[$__rate_interval]))", "{{kind}}")
            ],
        ),
        Panel(
            title="Memory of the worker",
            unit="bytes",
            bad="It climbs without end towards what the machine has.",
            do="See the rows of the vocabulary. If they do not climb with it, restart the worker and keep this graph.",
            queries=[Query('process_resident_memory_bytes{job="headrace"}', "resident")],
        ),
        Panel(
            title="Is the worker there?",
            unit="short",
            bad="0: it does not answer. Not ready for minutes: its start hangs. Restarts one after the other: each run "
            "ends for the same reason.",
            do="Read its last log lines: they name the reason (a refused start, a full disk, a failed delivery) and "
            "the choices; /readyz says what a start is at. It loses no event.",
            queries=[
                Query('up{job="headrace"}', "answers"),
                Query("headrace_ready", "ready"),
                Query('changes(process_start_time_seconds{job="headrace"}[15m])', "restarts in 15 min"),
            ],
        ),
        Panel(
            title="For how long no broker has answered",
            unit="s",
            bad="Above the red line: the worker waits, ready and with the lag of the last answer, and learns nothing.",
            do="Does `headrace topics describe` answer? Then look at the network between worker and broker. It goes on "
            "by itself once a broker answers, and sends the lists that wait: no need to restart it.",
            queries=[Query("max by (instance) (headrace_broker_away_seconds)", "away")],
            limit=60,
        ),
        Panel(
            title="Which build, on which device",
            unit="short",
            bad="`cpu` where you pay for a GPU, or two versions at once.",
            do="HEADRACE_DEVICE=cuda refuses to start where no GPU is found; `auto` goes on without one.",
            queries=[Query("headrace_build_info", "{{version}}, torch {{torch}}, {{device}}")],
        ),
    ],
}
