"""The topics of the API reference: each public name stands under one of them."""

import ast
import importlib
from pathlib import Path
from types import ModuleType

import sedma_jax as sj

# Names of `sedma_jax` itself; the first entry of a topic is its title.
TOPICS = {
    "programming": (
        "Programming",
        "Device program program_exactly program_residual program_bit_sliced program_pool "
        "program_sharded Programming ProgramStats Scheme VerifyRule open_loop "
        "write_and_verify rewrite_and_verify hadamard_verify gradient_programming "
        "sampled_rewrite rewrite_law acceptance_band stagnation differential offset "
        "global_scale tile_scale column_scale",
    ),
    "products": (
        "Crossbars and products",
        "Crossbar AbstractCrossbar PooledCrossbar Bank matvec matvec_sharded "
        "stream_matvec bit_serial_matvec bit_planes separate_source_matvec "
        "per_cell_noisy_matvec stored_matrix "
        "ADC DAC calibrated_adc calibrated_dac averaged_range lossless_adc clip_rate "
        "cell_columns labelled_arrays save_tree load_tree",
    ),
    "converters": (
        "Real converters",
        "draw_adc draw_dac ConverterErrors ConverterSpread SarADC RampADC PipelineADC",
    ),
    "effects": (
        "Effects",
        "perturb retain age compensate_drift drift_compensation "
        "column_drift_compensation fault_map inject_faults with_conductance "
        "with_line_resistance with_approximate_line_resistance with_nonlinear_current "
        "with_read_noise",
    ),
    "correction": (
        "Corrected products",
        "corrected_matvec stream_corrected_matvec denoise CorrectionInfo LambdaChoice "
        "RememberedLambda",
    ),
    "tiling": (
        "Tiling and pools of arrays",
        "plan_partitions candidate_plans PartitionPlan Pool ArrayKind Rectangle load_pool",
    ),
    "algorithm": ("Algorithm 1", "run RunResult Delivery enable_compilation_cache"),
}
# Modules with a page each.
MODULES = {
    "devices": "Devices",
    "noise_models": "Measured arrays",
    "costs": "Costs",
    "nn": "Networks",
    "linalg": "Linear systems",
    "memory": "Long-term memory",
    "comm": "Peers and jobs",
    "deploy": "Deployment",
    "data": "Data sets",
    "study": "Studies",
    "viz": "Pictures",
    "meliso_compat": "MELISO+'s accounting",
    "kernels": "Kernels",
}


def public_names(module: str) -> list[str]:
    """The public names of a module, as they are defined or handed on there."""
    found = importlib.import_module(f"sedma_jax.{module}")
    if not hasattr(found, "__path__"):  # a file: what it defines, not what it imports
        names = defined_names(Path(found.__file__))
    else:
        names = dir(found)
    return [n for n in names if not isinstance(getattr(found, n), ModuleType)]


def defined_names(path: Path) -> list[str]:
    """The public names that a file defines at its top, in order."""
    names = []
    for node in ast.parse(path.read_text()).body:
        targets = getattr(node, "targets", [getattr(node, "target", node)])
        names += [getattr(t, "id", None) or getattr(t, "name", None) for t in targets]
    return [name for name in names if name and not name.startswith("_")]


def pages() -> dict[str, str]:
    """Markdown of each page of the reference, by the page's file name."""
    texts = {}
    for slug, (title, names) in TOPICS.items():
        entries = [f"::: sedma_jax._public.{name}" for name in names.split()]
        texts[slug] = f"# {title}\n\n" + "\n\n".join(entries) + "\n"
    for module, title in MODULES.items():
        about = importlib.import_module(f"sedma_jax.{module}").__doc__ or ""
        entries = [f"::: sedma_jax.{module}.{name}" for name in public_names(module)]
        if module == "nn":
            entries.append("## sedma_jax.nn.flax")
            names = dir(sj.nn.flax)
            entries += [
                f"::: sedma_jax.nn._flax.{name}\n    options: {{heading_level: 3}}"
                for name in names
                if not name.startswith("_")
            ]
        head = f"# {title}\n\n`sedma_jax.{module}`. {about.strip()}"
        texts[module] = head + "\n\n" + "\n\n".join(entries) + "\n"
    texts["index"] = _index()
    return texts


def _index() -> str:
    lines = ["# API reference", "", "`import sedma_jax as sj`. Every public name:", ""]
    for slug, (title, names) in TOPICS.items():
        links = [f"[`{n}`]({slug}.md#sedma_jax._public.{n})" for n in names.split()]
        lines.append(f"- **[{title}]({slug}.md)**: {', '.join(links)}")
    for module, title in MODULES.items():
        prefix = f"{module}.md#sedma_jax.{module}"
        links = [f"[`{n}`]({prefix}.{n})" for n in public_names(module)]
        lines.append(f"- **[{title}]({module}.md)**, `sj.{module}`: {', '.join(links)}")
    return "\n".join(lines) + "\n"
