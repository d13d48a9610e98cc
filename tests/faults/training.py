"""Faults in training/ and rehearsal/: loops, states and what is published of them, schedules, the forecast.

Each is (name, file below src/fewstep, what stands there exactly once, what takes its place, the tests that
must notice).
"""

LOOP, TERMS, UPDATE = (f"training/loops/{name}.py" for name in ("scflow", "terms", "update"))
COUPLINGS, WEIGHTING = (f"training/loops/{name}.py" for name in ("couplings", "weighting"))
JOB, STATE, TRAIN, TRAINER = (f"training/{name}.py" for name in ("job", "state", "train", "trainer"))
FORECAST, REHEARSE = (f"rehearsal/{name}.py" for name in ("forecast", "rehearse"))

SID = "training/loops/sid.py"

FAULTS: list[tuple[str, str, str, str, str]] = [
    *(
        (name, SID, old, new, "sid_loop")
        for name, old, new in (
            ("a second network from scratch", "fake.load_state_dict(teacher.state_dict())", "pass"),
            ("a step size of another", "own.lr, momentum=own.beta1", "job.optimiser.lr, momentum=own.beta1"),
            ("no momentum of its own", ", momentum=own.beta1", ""),
            ("noise of another deviation", "**how) * source.scale", "**how)"),
            ("flow matching from data to noise", "Batch(noise, x, t", "Batch(x, noise, t"),
            ("samples that learn from the second network", "x.detach(), beside", "x, beside"),
            ("SiD's alpha whatever is set", "x, noise, t, alpha)", "x, noise, t)"),
            (
                "a second network that learns from the student's loss",
                "fake.requires_grad_(False)\n        return",
                "return",
            ),
            (
                "teacher and second network exchanged",
                "self.teacher, state.networks[FAKE], x",
                "state.networks[FAKE], self.teacher, x",
            ),
        )
    ),
    (
        "an objective that always sees the end of training",
        TERMS,
        "interpolant, z, progress)",
        "interpolant, z)",
        "training::test_an_objective_sees_how_far_training_is",
    ),
    (
        "every loss at the weight of the reflow",
        LOOP,
        "getattr(settings, name).weight for",
        "settings.reflow.weight for",
        "scflow_step::test_a_weight_is_that_of_its_own_loss",
    ),
    (
        "the adversarial loss without its weight",
        LOOP,
        'for name in terms if name != "consistency"',
        'for name in terms if name not in ("consistency", "adversarial")',
        "scflow_step::test_the_loss_is_the_sum_of_its_parts_by_their_weights",
    ),
    (
        "noise of deviation 1",
        LOOP,
        "torch.randn(z0.shape, **how) * self.source.scale",
        "torch.randn(z0.shape, **how)",
        "scflow_step::test_noise_has_the_scale_of_the_data",
    ),
    ("no caption is dropped", LOOP, "self.job.method.conditioning_dropout or 0.0", "0.0", "scflow_step"),
    (
        "noised latents are looked at near the data alone",
        LOOP,
        "noised = torch.rand(count, **how), torch",
        "noised = torch.rand(count, **how) / 2, torch",
        "scflow_step::test_a_discriminator_of_noised_latents_looks_at_all_times_with_noise_of_its_own",
    ),
    (
        "noised latents are looked at at the step's own times",
        LOOP,
        "noised = torch.rand(count, **how), torch",
        "noised = t, torch",
        "scflow_step::test_a_discriminator_of_noised_latents_looks_at_all_times_with_noise_of_its_own",
    ),
    *(
        (name, LOOP, old, new, "scflow_step")
        for name, old, new in (
            ("times are not rounded", "self._level(t), u_down", "t, u_down"),
            ("times are rounded to the nearest", "(t * levels).floor()", "(t * levels).round()"),
            (
                "what is truncated is rounded",
                "(move.t_down, settings.truncation)",
                "(moved, settings.truncation)",
            ),
            ("the step's own times", "noised=(moved, *draw", "noised=(draw.t, *draw"),
            ("the student is judged with the same noise", "noise[-1 if judges else 0]", "noise[0]"),
            ("the second beta is Adam's own", "(settings.beta1, settings.beta2)", "(settings.beta1, 0.99)"),
        )
    ),
    (
        "the discriminator reads no captions",
        LOOP,
        "else 0], draw.texts)",
        "else 0], None)",
        "scflow_step::test_a_discriminator_of_noised_latents_looks_at_all_times_with_noise_of_its_own",
    ),
    (
        "the share of the captions is not that of the points",
        LOOP,
        "self.texts.part(start, stop)",
        "self.texts.part(0, stop - start)",
        "scflow_step::test_all_that_is_drawn_is_shared_out_alike",
    ),
    (
        "the student is judged before the discriminator learns",
        LOOP,
        """            logged["discriminator"] = self._update_discriminator(draw, one_step).mean()
            critic = self._discriminator(draw, judges=True)
            terms["adversarial"] = losses.adversarial(critic, one_step)
""",
        """            critic = self._discriminator(draw, judges=True)
            terms["adversarial"] = losses.adversarial(critic, one_step)
            logged["discriminator"] = self._update_discriminator(draw, one_step).mean()
""",
        "scflow_step::test_the_student_is_judged_by_the_discriminator_that_has_just_learned",
    ),
    (
        "the target keeps what it should lose",
        LOOP,
        "state.weights[STUDENT], 1 - settings.target_ema",
        "state.weights[STUDENT], settings.target_ema",
        "scflow_step::test_the_target_follows_the_student_by_its_own_decay",
    ),
    (
        "truncation for threshold",
        LOOP,
        "draw.u_down, draw.u_up, settings.threshold",
        "draw.u_down, draw.u_up, settings.truncation",
        "scflow_step::test_threshold_truncation_and_huber_constant_reach_the_loss",
    ),
    (
        "the target's two moves exchanged",
        LOOP,
        "down, up = target.f(ends, end_times).chunk(2)",
        "up, down = target.f(ends, end_times).chunk(2)",
        "scflow_step::test_threshold_truncation_and_huber_constant_reach_the_loss",
    ),
    (
        "reflow from the path and not from pure noise",
        LOOP,
        "torch.cat([t, torch.ones_like(t)])",
        "torch.cat([t, t])",
        "scflow_step::test_threshold_truncation_and_huber_constant_reach_the_loss",
    ),
    (
        "a warm-up from nothing",
        UPDATE,
        "settings.lr * (step + 1) / (warm + 1)",
        "settings.lr * step / (warm + 1)",
        "states",
    ),
    (
        "the warm-up left out of the fall",
        UPDATE,
        "(steps - step) / (steps - warm)",
        "(steps - step) / steps",
        "states",
    ),
    (
        "a fall as 1 / step",
        UPDATE,
        "max(step / settings.decay_after, 1.0) ** 0.5",
        "max(step / settings.decay_after, 1.0)",
        "states",
    ),
    ("an average over the whole run", UPDATE, "max(settings.ema * steps, 1.0)", "max(steps, 1.0)", "states"),
    (
        "no short average at first",
        UPDATE,
        "min(1 - 1 / horizon, (1 + step) / (10 + step))",
        "1 - 1 / horizon",
        "states",
    ),
    ("the state of another run goes on", JOB, 'if info.get("fingerprint") != mark:', "if False:", "states"),
    (
        "a negative step goes on",
        JOB,
        "type(step) is not int or not 0 <= step <= steps",
        "type(step) is not int or step > steps",
        "states",
    ),
    (
        "what diverged is stored",
        JOB,
        'state.require_finite(f"{job.method.label} ({stored.stem})", "lower optimiser.lr")',
        "pass",
        "states",
    ),
    ("NaN in a state is taken up", STATE, "lost = _not_finite(tensors)", "lost = None", "states"),
    (
        "moments of another type are taken up",
        STATE,
        "if tensors[key].dtype != weight.dtype",
        "if False",
        "states",
    ),
    (
        "a first step that fails is called divergence",
        STATE,
        "if lost and lost[0] == 0:",
        "if False:",
        "states",
    ),
    (
        "the step that diverged is counted from nothing",
        STATE,
        "at step {lost[0] + 1}",
        "at step {lost[0]}",
        "states",
    ),
    ("the log begins anew", STATE, 'self.log.copy_(tensors["log"])', "self.log.zero_()", "states"),
    (
        "random numbers begin anew",
        STATE,
        'self.generator.set_state(tensors["generator"].cpu())',
        "pass",
        "states",
    ),
    (
        "the student is published in the place of its average",
        TRAIN,
        "path: Path, network: str = EMA) -> None",
        "path: Path, network: str = STUDENT) -> None",
        "states",
    ),
    ("samples drawn are steps", TRAIN, '"drawn": steps * job.training.batch', '"drawn": steps', "states"),
    ("an unfinished run is published", TRAIN, "if step != steps:", "if step > steps:", "states"),
    (
        "weights are published unchecked",
        TRAIN,
        "_check(chosen, job.network.model_dump(), job.source.shape, job.state)",
        "pass",
        "states",
    ),
    ("slices of six", TRAIN, "SLICES = 12", "SLICES = 6", "states"),
    (
        "a preparation goes on from another's state",
        TRAINER,
        'if info.get("training") != path.stem:',
        "if False:",
        "states",
    ),
    ("a preparation's rate does not fall", TRAINER, "rising * (1 - step / steps)", "rising", "states"),
    (
        "a preparation's gradient is not clipped",
        TRAINER,
        "self.state.weights[NETWORK], CLIP)",
        "self.state.weights[NETWORK], 1e9)",
        "states",
    ),
    (
        "memory that ends is a bare error",
        "training/precision.py",
        "isinstance(error, MemoryError | torch.OutOfMemoryError)",
        "isinstance(error, torch.OutOfMemoryError)",
        "states",
    ),
    (
        "one seed of many is forecast",
        FORECAST,
        "max(seeds * sum(each) / workers, *each)",
        "max(sum(each) / workers, *each)",
        "preflight::test_a_forecast_has_a_row_for_every_training_and_is_steps_times_seconds",
    ),
    (
        "workers share what a GPU does in turn",
        FORECAST,
        'workers = compute.workers if compute.device == "cpu" and compute.processes == 1 else 1',
        "workers = compute.workers * 2",
        "preflight::test_workers_share_the_trainings_of_a_cpu_and_none_of_a_gpu",
    ),
    (
        "a Heun step counted as one call",
        FORECAST,
        "(sampler_names.calls_a_step(draw.sampler) or 0) * draw.steps",
        "(1 if sampler_names.calls_a_step(draw.sampler) else 0) * draw.steps",
        "preflight::test_sampling_is_calls_times_samples",
    ),
    (
        "what does not fit is no problem",
        FORECAST,
        'Row(stage.name, "not measured", problem=str(error))',
        'Row(stage.name, "not measured")',
        "preflight::test_what_does_not_fit_is_a_problem_and_no_number",
    ),
    (
        "a processes' share is the whole batch",
        FORECAST,
        "training.batch // self.tier.compute.of(training).processes",
        "training.batch",
        "preflight::test_each_of_several_processes_is_timed_on_its_share",
    ),
    (
        "the tree of a running rehearsal is cleared",
        REHEARSE,
        "if not lock(held):",
        "if False:",
        "rehearsal::test_a_second_rehearsal_leaves_the_first_alone",
    ),
    (
        "somebody's folder passes for a rehearsal's",
        REHEARSE,
        "stand_in.is_marked(tree) or not any(tree.iterdir())",
        "True",
        "rehearsal::test_nothing_but_a_rehearsal_is_replaced",
    ),
    (
        "a rehearsal of a stage without what it needs",
        REHEARSE,
        "todo += filter(stage.reads, stages)",
        "pass",
        "rehearsal::test_a_named_stage_brings_what_it_needs_and_nothing_else",
    ),
    (
        "a gradient through the adaptive weight",
        WEIGHTING,
        "residual * (residual.detach() + offset)",
        "residual * (residual + offset)",
        "sample_weights::test_an_adaptive_weight_divides_by_a_power_that_carries_no_gradient",
    ),
    (
        "a learned weight of the other sign",
        WEIGHTING,
        "torch.exp(-w) * residual + w",
        "torch.exp(w) * residual - 2 * w",
        "sample_weights::test_the_learned_weight_of_a_constant_loss_is_its_logarithm",
    ),
    (
        "the weighted loss in the log",
        TERMS,
        "shown = shown + term.weight * found.detach().sum()",
        "shown = shown + term.weight * self._weighted(k, found, part).detach().sum()",
        "sample_weights::test_the_logged_loss_is_that_of_the_residuals_without_the_weight_of_a_sample",
    ),
    (
        "the first term's adaptive weight for all",
        TERMS,
        "if own := self.terms[k].adaptive:",
        "if own := self.terms[0].adaptive:",
        "sample_weights::test_a_terms_weight_and_its_adaptive_weight_multiply",
    ),
    (
        "a divergence that costs nothing",
        TERMS,
        "loss = loss + job.method.coupling.weight * torch.cat(costs).sum()",
        "pass",
        "couplings_in_training::test_a_dear_divergence_keeps_the_coupling_independent",
    ),
    (
        "what is beside the student does not learn",
        UPDATE,
        "        state.optimisers[name].step()\n",
        "        state.optimisers[STUDENT].step() if name == STUDENT else None\n",
        "sample_weights::test_the_learned_weight_weighs_the_student_and_learns_by_the_same_settings",
    ),
    (
        "what is beside the student keeps its first rate",
        UPDATE,
        """        for group in state.optimisers[name].param_groups:
            group["lr"] = learning_rate(settings, *at)
        state""",
        """        for group in state.optimisers[STUDENT].param_groups:
            group["lr"] = learning_rate(settings, *at)
        state""",
        "sample_weights::test_the_learned_weight_weighs_the_student_and_learns_by_the_same_settings",
    ),
    (
        "couples made by the student and not by its average",
        COUPLINGS,
        "conditioned(state.networks[EMA], own)",
        'conditioned(state.networks["student"], own)',
        "couplings_in_training::test_a_generator_changes_the_data_of_its_share_and_nothing_else",
    ),
    (
        "each process couples its own share from the start",
        COUPLINGS,
        "spread(first, len(batch.s), coupling.share)",
        "spread(0, len(batch.s), coupling.share)",
        "couplings_in_training::test_several_processes_couple_what_one_does",
    ),
    (
        "the weak teacher is in no fingerprint",
        JOB,
        "teacher, *drawn, *weak], self.modules)",
        "teacher, *drawn], self.modules)",
        "autoguidance::test_the_fingerprint_knows_the_weak_teacher",
    ),
    (
        "the teacher is not led away from the weak one",
        JOB,
        "if weak := _prepared(job, job.weak):",
        "if weak := None:",
        "autoguidance::test_an_autoguided_student_learns_from_the_combined_velocity",
    ),
    (
        "a weak teacher is trained among the students",
        "settings/training.py",
        "return [self.teacher, *weak] if self.teacher else weak",
        "return [self.teacher] if self.teacher else weak",
        "autoguidance::test_both_teachers_are_trained_before_their_student",
    ),
]
