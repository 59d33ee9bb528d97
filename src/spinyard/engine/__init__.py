"""The engine: claim, observe, decide, commit, execute. It knows no domain word; kinds come as `ports.domain.Domain`."""
