"""What a person may ask. Each use case runs inside one transaction of the store: it writes wishes and reads views, and
never observes or touches the world."""
