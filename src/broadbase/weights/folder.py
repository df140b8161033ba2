"""Stand-in while the real one is written."""
import json
from pathlib import Path
from safetensors.torch import save_file, load_file
from broadbase.model.base import Base
from broadbase.model.model import ModelConfig
def save(base, folder):
    folder=Path(folder); folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k,v in base.model.state_dict().items()}, folder/"model.safetensors")
    (folder/"config.json").write_text(json.dumps({"tree":base.config.tree(),"pattern":base.pattern}))
    for k,c in base.codecs.items():
        (folder/"codecs"/k).mkdir(parents=True, exist_ok=True); c.save(folder/"codecs"/k)
def load(folder):
    folder=Path(folder); t=json.loads((folder/"config.json").read_text()); c=ModelConfig.from_tree(t["tree"])
    m=c.build(); m.load_state_dict(load_file(folder/"model.safetensors"))
    return Base(c,m.eval(),{k:v.load(folder/"codecs"/k) for k,v in c.modalities.items()},t["pattern"])
