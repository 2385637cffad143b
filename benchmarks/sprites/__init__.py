"""The paper's comparison in miniature, on sprites that move where they face: `python -m benchmarks.sprites --help`.

`variants` what is compared · `sampling` how one is run and how far its two paths disagree · `experiments` steps that
are no method (yet) · `trained` held-out clips of the model that ships · `ideal` the world of known answers · `prior`
what the model knows of time's direction · `rows` runs that go on where they stopped · `tables` `pictures` `report` what
is shown · `commands` the runs themselves.
"""
