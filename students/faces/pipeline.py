from fewstep.release import FewStepPipeline  # noqa: F401
