"""The engine ``mst``: the steps of the package multistep-transcriber, guarded. Light: imports none of it.

engine     the protocol's methods           pipeline   the steps in order, and what a job keeps of them
loading    the models, once a process       lane       the thread that steps run in
sentences, entities, correction, speakers, topics      one step each, as we do it
stock      the same steps as the package alone does them (MST_STOCK)
language_model, endpoint                    the language model, and where it is
config     what the settings say
"""

from worker.engines.mst.config import is_installed, unconfigured
from worker.engines.mst.engine import MstEngine

__all__ = ["MstEngine", "is_installed", "unconfigured"]
