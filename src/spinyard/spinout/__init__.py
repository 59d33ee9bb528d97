"""PURE. A responsibility leaves its parent: phases, weights, gates, and the way back."""
