# frozen_string_literal: true

# Loads the compiled library. RubyGems from 3.4.6 on installs it as swarm_native/swarm_native.so, earlier ones name it
# after the gem. A library that is there but does not load raises its own error, not "no such file".
module SwarmNative
  names = ["swarm_native/swarm_native.so", "karafka_swarm.so"]
  found = names.any? do |name|
    require name
    true
  rescue LoadError => e
    raise unless e.path == name
  end
  raise LoadError, "the extension of karafka_swarm is not built: neither #{names.join(' nor ')} is there" unless found
end
