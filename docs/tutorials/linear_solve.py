# %% [markdown]
# # A linear solve on analog arrays
#
# Analog products have an error of a percent or so; a linear system can still be solved to
# ten digits with them. The arrays do the many products of an iterative solver; the
# *residual* $b - A z$, one product a step, is computed digitally and tells how far the
# solution is. A step need not be exact, only go in the right direction.
#
# `sj.linalg.solve` does that with flexible GMRES (a Krylov method that allows its
# preconditioner, here the analog solve, to be another one each step) or with iterative
# refinement. If an array is too inexact for the matrix at hand, it adds *residual slices*:
# a second array stores what the first missed, and so on.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np
import scipy.io

import sedma_jax as sj

jax.config.update("jax_enable_x64", True)  # ten digits need double precision
A = scipy.io.mmread("data/bcsstk02.mtx").toarray()  # run from the root of the repository
truth = np.ones(len(A))
b = A @ truth
print(f"{A.shape[0]} x {A.shape[1]}, condition number {np.linalg.cond(A):.0f}")

# %% [markdown]
# The *condition number* says by how much a relative error of the matrix may be magnified in
# the solution. `solve` *equilibrates* first: it scales rows and columns to about the same
# size, which lowers it, and fills the window of the cells better.

# %%
key = jax.random.key(0)
solutions = {
    name: sj.linalg.solve(A, b, name, rtol=1e-10, key=key) for name in sj.devices.PRESETS
}
for name, found in solutions.items():
    wrong = np.linalg.norm(found.value - truth) / np.linalg.norm(truth)
    print(
        f"{name:10} slices {found.slices}, {int(found.analog_products):3} analog and "
        f"{int(found.digital_products):2} digital products, residual "
        f"{float(found.residual):.1e}, error {wrong:.1e}"
    )
    residual = np.linalg.norm(b - A @ found.value) / np.linalg.norm(b)
    assert residual <= 1e-10
    # A residual bounds the error by the condition number.
    assert wrong <= np.linalg.cond(A) * residual
    assert found.analog_products > found.digital_products

# %% [markdown]
# ## What slices are for
#
# The error of the stored matrix against the number of slices: each slice multiplies it by
# the error of the one before, since it stores what is missing with the same relative error.

# %%
missed = {}
for name in ("epiram", "taox-hfox", "alox-hfo2"):
    missed[name] = []
    for slices in (1, 2, 3):
        crossbar, _ = sj.program_residual(A, name, slices=slices, key=key)
        held = np.asarray(sj.stored_matrix(crossbar))
        missed[name].append(float(np.linalg.norm(held - A) / np.linalg.norm(A)))
    print(name, " ".join(f"{m:.1e}" for m in missed[name]))
    assert missed[name][1] < 0.1 * missed[name][0]
    assert missed[name][2] < 0.1 * missed[name][1]

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.1))
for name, errors in missed.items():
    left.semilogy([1, 2, 3], errors, "o-", label=name)
left.set(xlabel="residual slices", ylabel="relative error of the stored matrix")
left.set_xticks([1, 2, 3])
left.legend()
place = np.arange(len(solutions))
analog = [int(s.analog_products) for s in solutions.values()]
digital = [int(s.digital_products) for s in solutions.values()]
right.bar(place - 0.2, analog, 0.38, label="analog")
right.bar(place + 0.2, digital, 0.38, label="digital")
right.set_xticks(place, [*solutions], fontsize=7)
right.set(ylabel="products to a residual of 1e-10")
right.legend()
plt.show()

# %% [markdown]
# ## When it cannot work
#
# A nearly singular matrix whose condition number exceeds what one slice can contract is
# refused, with the figures; `throw=False` returns the verdict instead of raising.

# %%
hopeless = np.array(A)
hopeless[0] = hopeless[1] * (1 + 1e-9 * np.arange(len(A)))
stopped = sj.linalg.solve(
    hopeless,
    hopeless @ truth,
    "epiram",
    slices=1,
    method=sj.linalg.IterativeRefinement,
    throw=False,
    key=key,
)
print(sj.linalg.RESULTS[stopped.result])
assert stopped.result == sj.linalg.RESULTS.not_contractive
