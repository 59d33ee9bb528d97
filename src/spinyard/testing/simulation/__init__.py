"""The simulated world: the production engine, decisions and store under faults, in virtual time, the same each time.

`scenario` is what happens (from a seed), `world` puts the parts together (given as factories: nothing here names an
adapter), `plane` is one control plane that can be frozen and killed, `checks` is what must always and what must finally
hold, `shrink` makes a failing scenario smaller.
"""
