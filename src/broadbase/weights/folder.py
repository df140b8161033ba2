"""Stand-in while the real one is written."""
import json
from pathlib import Path
from safetensors.torch import save_file
def save(base, folder):
    Path(folder).mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k,v in base.model.state_dict().items()}, folder/"model.safetensors")
