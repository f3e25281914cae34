"""Who may call, and how much: keys, quotas, the gate that every transport asks, and the certificates that both ports show."""
