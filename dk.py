import numpy as np, sys
from pathlib import Path
from measure import nifti
from client.imaging import phase_scales as P


def lows(before, after):
    few = (slice(None), *(slice(None, None, max(P.EVERY, s // P.MANY)) for s in before.shape[1:]))
    f, s = before[few].astype(float), after[few].astype(float)
    t = f > max(0.2 * float(np.percentile(f, 99)), 0)
    out = []
    for ax in range(3):
        for b, a, i in zip(*[np.array_split(x, 4, ax) for x in (f, s, t)]):
            if i.sum() >= P.MIN_PART:
                r = a[i] / b[i]
                out.append((round(float(np.median(r)), 3), round(float(a[i].sum() / b[i].sum()), 3), int(i.sum())))
    return min(out)


if __name__ == "__main__":
    o = []
    for d in [*Path("/tmp/images/ph").glob("recurrence*texture-*/*/mri/*"), *Path("/tmp/images/clean/nifti").iterdir()]:
        ph, m = nifti(d)
        o.append((min(lows(ph[0], p) for p in ph[1:]), str(d)[-40:]))
    for x in sorted(o)[:8]:
        print(x)
    z = np.load("/work/shared/data/breastdcedl/dce_3mid_96.npz")["x"].astype(np.float32)
    o = []
    for i in range(0, len(z) - 2, 3):
        ph = [z[i : i + 3, ..., p] for p in range(3)]
        try:
            o.append(min(lows(ph[0], p) for p in ph[1:])[0])
        except ValueError:
            pass
    print(np.percentile(o, [0, 1, 5, 50]).round(2))
