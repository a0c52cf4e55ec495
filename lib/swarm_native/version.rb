# frozen_string_literal: true

module SwarmNative
  VERSION = "0.1.0"
end
