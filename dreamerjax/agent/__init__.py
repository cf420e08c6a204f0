"""The agent, time-major and pure: world model, imagination, actor and critic, losses, one update; and its way onto devices.

From the loop to a formula: `learner.Learner.update` -> `update.train_step` -> `losses` -> one function of `ops`. `policy` acts,
`inference.Agent` is what a user holds. May import `networks`, `ops`, `envs`, `data`, `storage` and what lies below.
"""
