"""One file a published table or figure; a file with a ``TARGET`` is found by its name.

Folders called ``targets`` below those of ``CL_NVRM_PLUGINS`` count, too; of two files of one name, ours does.
"""

import cl_nvrm

__path__ = [*__path__, *(f"{place}/targets" for place in cl_nvrm.__path__)]
