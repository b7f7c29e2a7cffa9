"""What `vivant evaluate` and `vivant bench` compute: metrics, fixed protocols, reports. Nothing is printed here.

Entry points (all return a `report.Report`; `Report.write` makes JSON, Markdown and contact sheets):

    from vivant.evaluation.synthetic import synthetic_self_reenactment
    from vivant.evaluation.real import real_drive
    from vivant.evaluation.reenactment import Request, measure_reenactment
    from vivant.evaluation.speed import measure_speed

    synthetic_self_reenactment(engine, data_folder, *, pairs_per_session=8, num_identities=12, size=256, seed=3,
                               progress=None)
        Held-out synthetic people (rendered sessions in data_folder): each person's most frontal picture is driven
        by other pictures of the same person; the true picture is known.
    real_drive(engine, portraits, clips, *, every=2, max_frames=None, options=None, progress=None)
        Pictures of people (paths) x driving clips (paths), relative motion; output and driver are measured with
        the same 468-point mesh.
    measure_reenactment(engine, Request(protocol="self", clips=[...], portraits, judges, ...), progress=None)
        The papers' protocols (self, cross, long), any preset; frames are measured and forgotten, a stopped run goes
        on. What needs published networks is measured where `judges.given.load_judges` read them, else listed.
    measure_speed(name_or_path, portrait, clip, *, dtypes=("bfloat16", "float32"), device="auto", num_threads=2,
                  num_frames=60, rounds=3, progress=None)
        Frames per second of the networks and end to end (file to file), first-frame latency, memory; the dtypes
        take turns in the same run and the first is reported as a ratio to the last.

    report.write(folder, name, overwrite=False) -> list[Path]    NAME.json, NAME.md, sheets, plots
    report.to_json() / report.to_markdown() -> str
    report.passed -> bool | None      None: no target of this report could be judged
    report.numbers -> dict[str, float]  flat names, what Preset.expected quotes

`progress`, where given, is called with (done, all) pictures or frames. Bad input raises VivantError. Changing what
a number means raises the version in `protocol.py`. Metrics are in `vivant.evaluation.metrics`, one per file.
"""
