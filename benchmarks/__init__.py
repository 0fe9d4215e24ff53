"""How fast it is, as ratios of what the client alone can do on the same machine in the same run.

`docs/speed.md` explains what is measured and shows the figures.

Read in this order:

    stream        the events, from a seed
    processes     a process for each thing that is measured or that measures
    sending       the processes that send the events
    bare          what the Kafka client alone gives: the line everything is divided by
    introduction  a learner that has met everybody
    phases        what a worker does while it is measured
    service       the worker that does it
    freshness     events at a steady rate, and how long until their lists are acknowledged
    report        what is printed
    speed         the command: runs all of them
    growth        the worker against users, items, partitions and batch size, as a picture
    profiled      where the worker's time goes, function by function
    flame         the same as a flame graph, by samples
    gpu           the learner and its top-k alone, on any device, beside the roofline
"""
