"""The parts of `benchmark_gpu.py`: each takes the `Scale` and adds what it finds to the record."""

import gc
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import benchmark_training
import torch
from benchmark import CLIP, REFERENCES, TOLERANCE, XCLIP, Contender, build_contenders
from benchmark_measurement import OURS, PROJECTION_DIM, RELEASED, check_close, order_of_round, summarize
from benchmark_training import EOS, TEXT_TOWERS, build_ours, draw_batch, trainee
from gpu_record import Record, TimeIsUpError, time_limit
from released_arithmetic import ReleasedTextTower, ReleasedVitaClip
from transformers import CLIPConfig, CLIPModel

import vitaclip_hf
from vitaclip_hf import VitaClipForVideoClassification, VitaClipModel


CONTEXT_TOKENS = 16
WARM_UPS = 3
# Largest difference, as a share of the largest feature, of two ways to run the same arithmetic.
SAME = {torch.float32: 1e-5, torch.bfloat16: 2e-2}

# Each with whether float32 products may be computed in TF32.
PRECISIONS = {
    "float32": (torch.float32, False),
    "float32 as TF32": (torch.float32, True),
    "bfloat16": (torch.bfloat16, False),
}


@dataclass
class Scale:
    """How large everything is."""

    device: str
    preset: str
    frames: int
    batches: tuple[int, ...]
    classes: int
    train_batches: tuple[int, ...]
    videos_of_agreement: int
    compiled_batch: int
    seconds: float  # of one interleaved measurement, warm-up aside
    least_rounds: int
    most_rounds: int
    backend: str  # of torch.compile

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    def settings(self) -> dict:
        return asdict(self)


FULL = Scale("cuda", "b16", 8, (1, 16, 64), 400, (8, 32), 16, 16, 2.0, 5, 50, "inductor")
SMOKE = Scale("cpu", "tiny", 4, (1, 2), 6, (2,), 3, 2, 0.0, 2, 2, "aot_eager")


def free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def random_videos(scale: Scale, batch: int, seed: int = 0) -> torch.Tensor:
    """`[B, T, 3, H, W]` on the device, float32."""
    size = benchmark_training.PRESETS[scale.preset]["image_size"]
    generator = torch.Generator(scale.device).manual_seed(seed)
    return torch.randn(batch, scale.frames, 3, size, size, generator=generator, device=scale.device)


@contextmanager
def float32_products(tf32: bool) -> Iterator[None]:
    """Whether float32 matrix products and convolutions are computed as TF32."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


# Timing


def time_call(call: Callable[[], object], on_gpu: bool) -> tuple[float, int | None]:
    """Seconds, and on a GPU the peak of memory in bytes beyond what lay there before."""
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    start = time.perf_counter()
    call()
    if on_gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    return seconds, torch.cuda.max_memory_allocated() - before if on_gpu else None


def measure(calls: dict[str, Callable[[], object]], scale: Scale, references: dict[str, str]) -> list[dict]:
    """Times the calls interleaved: at least `least_rounds`, then until `scale.seconds` are over.

    Returns:
        One entry for each call, as in the JSON. A call that needs too much memory has its error instead of times.
    """
    entries: dict[str, dict] = {}
    for name, call in calls.items():
        try:
            for _ in range(WARM_UPS):
                time_call(call, scale.on_gpu)
            entries[name] = {"name": name}
        except torch.OutOfMemoryError:
            entries[name] = {"name": name, "error": "out of memory"}
            free_memory()
    names = [name for name in calls if "error" not in entries[name]]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    start = time.monotonic()
    for round_index in range(scale.most_rounds):
        if round_index >= scale.least_rounds and time.monotonic() - start > scale.seconds:
            break
        for name in order_of_round(names, round_index):
            taken, entries[name]["peak_memory_bytes"] = time_call(calls[name], scale.on_gpu)
            seconds[name].append(taken)
    summary = summarize(seconds, {key: name for key, name in references.items() if name in names})
    return [entry | summary.get(name, {}) | {"seconds": seconds.get(name)} for name, entry in entries.items()]


# Features and scores in every number type


@dataclass
class Answers:
    """Of the same videos: `features` `[B, E]` and `logits` `[B, C]`, in float64 on the CPU."""

    features: torch.Tensor
    logits: torch.Tensor


def ranks(logits: torch.Tensor) -> torch.Tensor:
    return logits.argsort(-1).argsort(-1).double()


def compare(found: Answers, expected: Answers) -> dict[str, float]:
    """How near two answers to the same videos are."""
    largest = (found.features - expected.features).abs().max() / expected.features.abs().max()
    both = [answers.logits for answers in (found, expected)]
    spearman = [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(*map(ranks, both), strict=True)]
    return {
        "largest_relative_difference": float(largest),
        "least_cosine": float(torch.cosine_similarity(found.features, expected.features).min()),
        "largest_logit_difference": float((both[0] - both[1]).abs().max()),
        "top1_agreement": float((both[0].argmax(-1) == both[1].argmax(-1)).double().mean()),
        "least_spearman": float(torch.stack(spearman).min()),
    }


@torch.no_grad()
def agreement(scale: Scale, record: Record) -> None:
    """Every number type on the device, and float32 on the CPU, against float64."""
    torch.manual_seed(0)
    model = build_ours(scale.preset, scale.frames, scale.classes, CONTEXT_TOKENS).eval()
    released = ReleasedVitaClip(model).eval()
    videos = random_videos(scale, scale.videos_of_agreement)

    def ours_answers(pixels: torch.Tensor) -> Answers:
        features = model.get_video_features(pixels, class_tokens_only=True).pooler_output
        return Answers(features.double().cpu(), model(pixels).logits.double().cpu())

    def released_answers(pixels: torch.Tensor) -> Answers:
        return Answers(released.video(pixels).double().cpu(), released(pixels).double().cpu())

    few = videos[:4]
    on_cpu = ours_answers(few.cpu())
    model.to(scale.device), released.to(scale.device)
    model.double(), released.double()
    truth = ours_answers(videos.double())
    same = compare(released_answers(videos.double()), truth)
    record.check("released arithmetic, float64", same["largest_relative_difference"] < 1e-9, **same)
    expected = Answers(truth.features[: len(few)], truth.logits[: len(few)])
    figures = compare(on_cpu, expected)
    record.check("ours, float32 on the CPU", figures["largest_relative_difference"] < 1e-4, **figures)
    model.float(), released.float()
    for name, (dtype, tf32) in PRECISIONS.items():
        if dtype != torch.float32:
            with torch.autocast(scale.device, dtype):
                record.check(f"ours, {name} by autocast", None, **compare(ours_answers(videos), truth))
        model.to(dtype), released.to(dtype)
        with float32_products(tf32):
            figures = compare(ours_answers(videos.to(dtype)), truth)
            theirs = compare(released_answers(videos.to(dtype)), truth)
        # Of rounded numbers only the released arithmetic's own error tells what is to be expected.
        passed = figures["largest_relative_difference"] < 1e-4 if name == "float32" else figures["least_cosine"] > 0.99
        record.check(f"ours, {name}", passed, **figures)
        record.check(f"released arithmetic, {name}", None, **theirs)


# Where the host waits for the device


def forwards(model: VitaClipForVideoClassification, ids: torch.Tensor) -> dict[str, Callable]:
    """Every public forward as a function of frames `[B, T, 3, H, W]`."""
    labels = torch.zeros(1, dtype=torch.long, device=ids.device)
    return {
        "video features": lambda videos: model.get_video_features(videos, class_tokens_only=True).pooler_output,
        "video features with all tokens": lambda videos: model.get_video_features(videos).pooler_output,
        "video features without prompts": lambda videos: (
            model.get_video_features(videos, use_prompts=False).pooler_output
        ),
        "image features": lambda videos: model.get_image_features(videos[:, 0]).pooler_output,
        "class features": lambda videos: model.get_class_features().pooler_output,
        "text features": lambda videos: model.get_text_features(ids).pooler_output,
        "videos with texts": lambda videos: VitaClipModel.forward(model, videos, input_ids=ids).logits_per_video,
        "videos with own classes": lambda videos: VitaClipModel.forward(model, videos).logits_per_video,
        "classifier": lambda videos: model(videos).logits,
        "classifier with labels": lambda videos: model(videos, labels=labels.expand(len(videos))).loss,
    }


def build_for_forwards(scale: Scale) -> tuple[VitaClipForVideoClassification, torch.Tensor]:
    """The model on the device in evaluation, and texts `[3, 7]` for it."""
    torch.manual_seed(0)
    model = build_ours(scale.preset, scale.frames, scale.classes, CONTEXT_TOKENS).eval().to(scale.device)
    ids = torch.randint(EOS - 1, (3, 7), generator=torch.Generator().manual_seed(0))
    ids[:, -1] = EOS
    return model, ids.to(scale.device)


def waits_in(call: Callable[[], object]) -> int:
    """How often torch saw the host wait for the device."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(warning.message) for warning in caught)


def first_wait_in(call: Callable[[], object]) -> str | None:
    """The line of the package, or of what it calls, where the host waits first; `None` if it never does."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    except RuntimeError as error:
        if "synchronizing CUDA operation" not in str(error):
            raise
        frames = traceback.extract_tb(error.__traceback__)
        package = str(Path(vitaclip_hf.__file__).parent)
        where = next((frame for frame in reversed(frames) if frame.filename.startswith(package)), frames[-1])
        return f"{Path(where.filename).name}:{where.lineno} {where.line}"
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return None


def synchronization(scale: Scale, record: Record) -> None:
    """No forward makes the host wait for the device, once a first one has measured the lengths of the class names."""
    model, ids = build_for_forwards(scale)
    videos = random_videos(scale, 2)

    def gradients() -> None:
        model.train()
        labels = torch.zeros(len(videos), dtype=torch.long, device=scale.device)
        with torch.autocast(scale.device, torch.bfloat16):
            loss = model(videos, labels=labels).loss
        loss.backward()
        model.eval()

    def without_gradients(forward: Callable) -> Callable[[], None]:
        def call() -> None:
            model.text_embedding_cache.clear()
            with torch.no_grad():
                forward(videos)

        return call

    calls = {name: without_gradients(forward) for name, forward in forwards(model, ids).items()}
    for name, call in (calls | {"training: forward and backward": gradients}).items():
        if not scale.on_gpu:
            call()
            record.check(f"no wait in {name}", None, reason="needs CUDA")
            continue
        first = waits_in(call)
        where = first_wait_in(call)
        record.check(f"no wait in {name}", where is None, where=where, waits_in_the_first_call=first)


# The towers and the training step


@cache
def contenders_on(device: str, preset: str, frames: int) -> dict[str, Contender]:
    torch.manual_seed(0)
    contenders = build_contenders(preset, frames)
    for contender in contenders:
        contender.model.to(device)
    return {contender.name: contender for contender in contenders}


def contenders_of(scale: Scale) -> dict[str, Contender]:
    return contenders_on(scale.device, scale.preset, scale.frames)


def title(scale: Scale, batch: int, precision: str, more: str = "") -> str:
    return f"video tower, {batch} × {scale.frames} frames, {precision}{more}"


@torch.no_grad()
def vision(scale: Scale, record: Record) -> None:
    """Inference of the video tower in every number type."""
    contenders = contenders_of(scale)
    ours, released, heads_first, *_ = contenders.values()
    for contender in (ours, released, heads_first):
        contender.model.double()
    few = random_videos(scale, 2).double()
    for contender in (released, heads_first):
        difference = check_close(
            contender.features(few), ours.features(few), TOLERANCE, f"features of {OURS!r} and {contender.name!r}"
        )
        record.check(f"same features: {contender.name}, float64", True, largest_relative_difference=difference)
    for precision, (dtype, tf32) in PRECISIONS.items():
        for contender in contenders.values():
            contender.model.to(dtype)
        for batch in scale.batches:
            videos = random_videos(scale, batch).to(dtype)
            calls = {name: lambda c=c, v=videos: c.features(v) for name, c in contenders.items()}
            with float32_products(tf32):
                entries = measure(calls, scale, REFERENCES)
            record.measurement(title(scale, batch, precision), entries, videos=batch)
        free_memory()


@torch.no_grad()
def text(scale: Scale, record: Record) -> None:
    """The text tower on all classes, once."""
    torch.manual_seed(0)
    ours = build_ours(scale.preset, scale.frames, scale.classes, CONTEXT_TOKENS).eval()
    released = ReleasedTextTower(ours).eval()
    one_layer = benchmark_training.PRESETS["tiny"] | {"num_hidden_layers": 1}
    text_tower = TEXT_TOWERS[scale.preset] | {"eos_token_id": EOS}
    config = CLIPConfig(vision_config=one_layer, text_config=text_tower, projection_dim=PROJECTION_DIM[scale.preset])
    clip = CLIPModel._from_config(config, attn_implementation="sdpa").eval()
    # The same prompts as words: contexts are words, and what comes after the end is the end again.
    ids = ours.class_prompts.class_input_ids.clone()
    longest = ours.class_prompts.lengths[1]
    ids[ids == benchmark_training.CONTEXT_SLOT] = 320
    ids[ids < 0] = EOS
    models = (ours, released, clip)
    for model in models:
        model.to(scale.device)
    ids = ids.to(scale.device)
    padded = {"plain CLIP, padded to the longest": ids[:, :longest].contiguous(), "plain CLIP, 77 tokens": ids}
    calls: dict[str, Callable] = {
        OURS: lambda: ours.get_class_features().pooler_output,
        RELEASED: released,
        **{name: lambda i=i: clip.get_text_features(i).pooler_output for name, i in padded.items()},
    }
    difference = float((released() - calls[OURS]()).abs().max() / released().abs().max())
    record.check("same class features, float32", difference < 1e-4, largest_relative_difference=difference)
    references = {"released": RELEASED, "clip": "plain CLIP, padded to the longest"}
    for precision, (dtype, tf32) in PRECISIONS.items():
        for model in models:
            model.to(dtype)
        with float32_products(tf32):
            entries = measure(calls, scale, references)
        name = f"text tower, {scale.classes} classes of {CONTEXT_TOKENS} context tokens, {precision}"
        record.measurement(name, entries)


def train(scale: Scale, record: Record) -> None:
    """Forward, backward and AdamW on the prompts, with bfloat16 by autocast."""
    sizes = {"preset": scale.preset, "frames": scale.frames, "context_tokens": CONTEXT_TOKENS}
    difference = benchmark_training.check(sizes, scale.device)
    record.check("same loss and gradients, float64", True, largest_relative_difference=difference)
    free_memory()
    torch.manual_seed(0)
    model = build_ours(scale.preset, scale.frames, scale.classes, CONTEXT_TOKENS)
    trainees = {name: trainee(name, model) for name in (RELEASED, OURS)}
    for contender in trainees.values():
        contender.model.to(scale.device)
    for batch in scale.train_batches:
        pixels, labels = draw_batch(scale.preset, batch, scale.frames, scale.classes)
        pixels, labels = pixels.to(scale.device), labels.to(scale.device)
        settings = {"micro_batches": 1, "dtype": "bfloat16"}
        steps, peaks = {}, {}
        for name in (OURS, RELEASED):
            step = benchmark_training.Step(trainees[name], pixels, labels, settings)
            try:
                peaks[name] = benchmark_training.peak_memory(step)["peak_memory_beyond_bytes"] if scale.on_gpu else None
                steps[name] = step
            except torch.OutOfMemoryError:
                record.check(f"{name}: a step of {batch} videos fits", False)
                step.optimizer.zero_grad()
                free_memory()
        entries = measure(steps, scale, {"released": RELEASED})
        for entry in entries:
            entry["peak_memory_bytes"] = peaks[entry["name"]]
        name = f"training step, {batch} × {scale.frames} frames, {scale.classes} classes, bfloat16 by autocast"
        record.measurement(name, entries, videos=batch)
        del steps
        free_memory()


# CUDA graphs and torch.compile


def relative_difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    found, expected = found.double(), expected.double()
    return float((found - expected).abs().max() / expected.abs().max())


def capture(call: Callable[[torch.Tensor], torch.Tensor], videos: torch.Tensor) -> Callable:
    """The call as a CUDA graph, which takes other frames of the same shape."""
    inputs = videos.clone()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            call(inputs)
    torch.cuda.current_stream().wait_stream(stream)
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        output = call(inputs)

    def replay(others: torch.Tensor) -> torch.Tensor:
        inputs.copy_(others)
        recorded.replay()
        return output

    return replay


@torch.no_grad()
def graph(scale: Scale, record: Record) -> None:
    """Every forward as a CUDA graph gives what it gives without, and what the graph saves at one video."""
    if not scale.on_gpu:
        record.check("CUDA graphs", None, reason="needs CUDA")
        return
    model, ids = build_for_forwards(scale)
    for dtype in (torch.float32, torch.bfloat16):
        model.to(dtype)
        videos, others = (random_videos(scale, 2, seed).to(dtype) for seed in (0, 1))
        for name, forward in forwards(model, ids).items():

            def call(frames: torch.Tensor, forward: Callable = forward) -> torch.Tensor:
                model.text_embedding_cache.clear()  # so that the text tower is part of the graph
                return forward(frames)

            expected = call(others).clone()
            label = f"CUDA graph equals eager: {name}, {str(dtype).removeprefix('torch.')}"
            if first_wait_in(lambda: call(others)) is not None:  # noqa: B023  called at once
                record.check(label, False, reason="the host waits within it: not captured")
                continue
            found = capture(call, videos)(others).clone()
            difference = relative_difference(found, expected)
            equal = torch.equal(found, expected)
            record.check(label, difference <= SAME[dtype], largest_relative_difference=difference, to_the_bit=equal)
            model.text_embedding_cache.clear()
    videos = random_videos(scale, 1).bfloat16()
    calls: dict[str, Callable] = {}
    for name, contender in contenders_of(scale).items():
        contender.model.bfloat16()
        calls[name] = lambda c=contender: c.features(videos)
        calls[name]()
        if first_wait_in(calls[name]) is not None:
            continue
        try:
            replay = capture(contender.features, videos)
        except RuntimeError as error:
            record.check(f"CUDA graph: {name}", False if name == OURS else None, reason=str(error)[:300])
        else:
            calls[f"{name}, CUDA graph"] = lambda r=replay: r(videos)
    record.measurement(
        title(scale, 1, "bfloat16", ", eager and as CUDA graphs"), measure(calls, scale, REFERENCES), videos=1
    )


def compile_within(
    contender: Contender, videos: torch.Tensor, scale: Scale, mode: str | None, seconds: float, record: Record
) -> Callable[[], torch.Tensor] | None:
    """The contender's compiled forward on these frames, checked against eager; `None` if it failed or took too long."""
    options = {"mode": mode} if scale.backend == "inductor" else {"backend": scale.backend}
    name = f"compiled equals eager: {contender.name}, {len(videos)} videos" + (f", {mode}" if mode else "")
    expected = contender.features(videos)
    compiled = torch.compile(contender.features, fullgraph=contender.name == OURS, dynamic=False, **options)
    start = time.monotonic()
    try:
        with time_limit(seconds):
            for _ in range(WARM_UPS):  # "reduce-overhead" records its graph at the second call
                difference = relative_difference(compiled(videos), expected)
    except TimeIsUpError:
        record.check(name, None, reason=f"not compiled within {seconds:.0f} s")
        return None
    except Exception as error:  # of the compiler, for this contender alone
        record.check(
            name, False if contender.name == OURS else None, reason=f"{type(error).__name__}: {str(error)[:300]}"
        )
        return None
    taken = time.monotonic() - start
    passed = difference <= SAME[videos.dtype] if contender.name == OURS else None
    record.check(name, passed, largest_relative_difference=difference, seconds_to_compile=round(taken, 1))
    return lambda: compiled(videos)


@torch.no_grad()
def compiled(scale: Scale, record: Record) -> None:
    """`torch.compile` of the video tower in bfloat16: with CUDA graphs at one video, and plainly at more."""
    contenders = contenders_of(scale)
    for contender in contenders.values():
        contender.model.bfloat16()
    one, more = (random_videos(scale, batch).bfloat16() for batch in (1, scale.compiled_batch))
    # The most important first. Ours is measured at once, since a later compilation may take too long.
    calls: dict[str, Callable] = {name: lambda c=c: c.features(more) for name, c in contenders.items()}
    for name in (OURS, CLIP, RELEASED, XCLIP):
        fast = compile_within(contenders[name], more, scale, None, 60, record)
        if fast is not None:
            calls[f"{name}, compiled"] = fast
            measure_compiled(scale, record, calls, more)
        if name == OURS:
            measure_reduced_overhead(scale, record, contenders[OURS], one)


def measure_compiled(scale: Scale, record: Record, calls: dict[str, Callable], videos: torch.Tensor) -> None:
    """In place of an earlier measurement with fewer compiled contenders."""
    name = title(scale, len(videos), "bfloat16", ", eager and compiled")
    entries = measure(calls, scale, REFERENCES)
    record.part["measurements"] = [m for m in record.part["measurements"] if m["name"] != name]
    record.measurement(name, entries, videos=len(videos))


def measure_reduced_overhead(scale: Scale, record: Record, ours: Contender, videos: torch.Tensor) -> None:
    """Ours at one video with mode "reduce-overhead", which uses CUDA graphs."""
    fast = compile_within(ours, videos, scale, "reduce-overhead", 60, record)
    if fast is None:
        return
    calls = {OURS: lambda: ours.features(videos), f"{OURS}, compiled, reduce-overhead": fast}
    entries = measure(calls, scale, {})
    record.measurement(title(scale, 1, "bfloat16", ", eager and compiled"), entries, videos=1)
