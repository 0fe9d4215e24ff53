"""The worker: events in, learning, fresh recommendations out.

The flow, one stage a file; `loop` calls them in this order and is what a newcomer reads first:

    take        source        records in offset order: Kafka in, offsets, not what a payload means
                journal       the cut of each step, remembered before its lists go out; made again after a crash
                records       what one take brought, as columns
    decode      decode        bytes -> events as columns, and rejects (kernels/parse: the plain ones, compiled;
                              reasons: why a payload was refused)
                duplicates    events that came before (kernels/recent: how they are found)
                actions       what an event means to the model
    learn       (model)       model.learner: rank each event, then learn
    top-k       (model)       model.topk: lists for the touched users
    publish     lists         messages of the lists that changed (kernels/lists: as JSON, compiled; last_lists: what
                              they are compared with)
                publish       to the topics; a failed delivery raises
    observe     observation   -> metrics (Prometheus), quality (live figures), health (/livez /readyz /metrics)
    keep        progress      -> checkpoint: one atomic unit on disk, with the offsets inside; written while steps go on
                precopy       what users and items have, copied a piece at a time between steps
                refusals      why a saved state cannot be gone on with, in the words of the settings

`worker` puts the parts together from `config`; `commands/` holds one file a command, `cli` parses and nothing more.
`broker` is the in-process broker for the demo and the tests.
"""
