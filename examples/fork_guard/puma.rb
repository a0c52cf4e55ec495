# frozen_string_literal: true

# config/puma.rb of a cluster that preloads the app.

workers 2
preload_app!

# In the master, before each worker is forked: producers that the boot has used deliver what they hold and are closed;
# the next use opens them again. Anything else that is live stops the boot here, by name.
before_fork do
  SwarmNative::ForkGuard.quiesce { nil }
end
