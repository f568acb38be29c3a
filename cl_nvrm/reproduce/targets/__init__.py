"""One file a published table or figure; a file with a ``TARGET`` is found by its name.

Folders called ``targets`` below those of ``CL_NVRM_PLUGINS`` count, too; a name that two files claim is refused.
"""

import cl_nvrm

__path__ = [*__path__, *(f"{place}/targets" for place in cl_nvrm.__path__)]
