# frozen_string_literal: true

# Bundler requires a gem by its name: `gem "karafka_swarm"` in a Gemfile loads everything.
require "swarm_native"
