# frozen_string_literal: true

# config/initializers/fork_guard.rb: protects every process of a Rails app.

require "swarm_native/fork_guard"

# The bindings are loaded by now (Bundler.require came first), so a refusal can name the line that made a handle.
SwarmNative::ForkGuard.remember_places

# To see first what would be refused: SwarmNative::ForkGuard.mode = :warn
SwarmNative::ForkGuard.mode = :raise
