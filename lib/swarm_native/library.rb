# frozen_string_literal: true

# Loads the compiled library. RubyGems from 3.4.6 on installs it as swarm_native/swarm_native.so, earlier ones name it
# after the gem. A library that is there but does not load raises its own error, not "no such file".
module SwarmNative
  candidates = ["swarm_native/swarm_native.so", "karafka_swarm.so"]
  begin
    require candidates.first
  rescue LoadError => e
    raise unless e.path == candidates.first

    require candidates.last
  end
end
