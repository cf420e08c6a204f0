"""Play one episode with a trained agent: python examples/act.py runs/<id>"""

import sys

from dreamerjax import Agent

agent = Agent.load(sys.argv[1])
env = agent.make_env()
observation, _ = env.reset(seed=0)
state, done, total = None, False, 0.0
while not done:
    action, state = agent.act(observation, state)
    observation, reward, terminated, truncated, _ = env.step(action)
    total, done = total + float(reward), terminated or truncated
print(f"return {total:.0f}")
