# frozen_string_literal: true

# RubyGems runs this before it lets cargo build the extension. It builds nothing: it names whatever the build is going
# to miss, all at once and with the package to install, where cargo would end in pages of log minutes later.

require_relative "preflight"

preflight = Preflight.new
abort preflight.refusal if preflight.refusal

preflight.choose_features
# RubyGems makes what an extconf.rb has configured; before 3.4 it insists.
File.write("Makefile", "all clean install:\n\t@:\n")
