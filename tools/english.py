"""Write locales/en/nodeDefs.json, which holds what the nodes themselves say: python -m tools.english."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).absolute().parent.parent
LOCALES = ROOT / "locales"
FILE = "nodeDefs.json"


def main() -> None:
    """Write the file over the one that is there."""
    write(LOCALES / "en" / FILE, definitions(load_pack()))


def load_pack() -> ModuleType:
    """Import the pack as ComfyUI does: from its path, as a package of a name with a '-'."""
    name = "film-openvino"
    spec = importlib.util.spec_from_file_location(name, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def definitions(pack: ModuleType) -> dict[str, Any]:
    """Return each node's names, description and tooltips in the form of ComfyUI's translations."""
    return {name: _definition(node, pack.NODE_DISPLAY_NAME_MAPPINGS[name])
            for name, node in pack.NODE_CLASS_MAPPINGS.items()}


def _definition(node: Any, display_name: str) -> dict[str, Any]:
    types = node.INPUT_TYPES()
    inputs = {**types["required"], **types.get("optional", {})}
    names = getattr(node, "RETURN_NAMES", node.RETURN_TYPES)
    tooltips = getattr(node, "OUTPUT_TOOLTIPS", ())
    return {"display_name": display_name, "description": node.DESCRIPTION,
            "inputs": {name: {"name": name, "tooltip": options[1]["tooltip"]} for name, options in inputs.items()},
            "outputs": {str(index): {"name": name, "tooltip": tooltip}
                        for index, (name, tooltip) in enumerate(zip(names, tooltips, strict=True))}}


def write(path: Path, texts: dict[str, Any]) -> None:
    """Write translations as the files have them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(texts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
